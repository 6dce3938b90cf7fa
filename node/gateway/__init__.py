"""One OpenAI-compatible endpoint in front of every model that any peer serves."""
