"""The card of a record."""
