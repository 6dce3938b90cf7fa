"""Engines for tests: processes that speak the OpenAI dialect without a model."""
