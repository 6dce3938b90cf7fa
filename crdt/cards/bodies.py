"""Placeholder until the card branch lands."""

from __future__ import annotations

from dataclasses import dataclass

from crdt.errors import MalformedBytes
from crdt.ids import OperationId


@dataclass(frozen=True, slots=True)
class CardBody:
    """Card."""

    table: tuple[OperationId, ...]
    raw: bytes


def open_card(body: bytes) -> CardBody:
    """Open."""
    if not body:
        raise MalformedBytes("no card")
    return CardBody((), body)
