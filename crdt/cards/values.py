"""Placeholder until the card branch lands."""

from __future__ import annotations

import json
from typing import Any


def canonical_json(value: Any) -> str:
    """Return it."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def open_json(text: str) -> Any:
    """Return it."""
    return json.loads(text)
