"""Running models and choosing who runs them."""
