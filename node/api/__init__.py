"""The HTTP API: handlers that translate and delegate."""
