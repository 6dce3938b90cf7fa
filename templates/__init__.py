"""Formfiles: how a model or an agent becomes a running process."""
