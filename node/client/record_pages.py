"""A record's log as a node gives it, page by page. Only asks: nothing in here is believed yet."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from crdt import Item, MalformedBytes, RecordId, unpack_item
from node.client.client import Client
from node.client.errors import BadAnswer


@dataclass(frozen=True, slots=True)
class RecordPage:
    """A stretch of what was signed about a record: account entries first, causes first.

    Attributes:
        done: Nothing more is there now; otherwise ask again at once.
    """

    items: tuple[Item, ...]
    done: bool


class RecordPages:
    """Reads one record's log from one node, from where it was left. For one thread at a time."""

    def __init__(
        self, client: Client, plural: str, record: RecordId, *, after: int = 0, after_entry: int = 0
    ) -> None:
        self._client = client
        self._plural = plural
        self._record = record
        self._after = after
        self._after_entry = after_entry

    def through(self, client: Client) -> RecordPages:
        """Return what goes on here through another client of the same node."""
        return RecordPages(
            client, self._plural, self._record, after=self._after, after_entry=self._after_entry
        )

    def rewind(self) -> None:
        """Begin again: the node may be another one by now, with arrivals of its own."""
        self._after = self._after_entry = 0

    def fetch(self, *, wait_s: float = 0) -> RecordPage:
        """Return the next page.

        Args:
            wait_s: How long the node may wait for something new, 0..25.

        Raises:
            BadAnswer: what came is no page of items.
            NodeUnreachable, ConnectionCut, ApiProblem: the node could not be asked, or refuses.
        """
        query: dict[str, str | int] = {
            "after": self._after, "after_entry": self._after_entry, "wait_s": str(wait_s),
        }  # fmt: skip
        page: dict[str, Any] = self._client.get(
            f"/v1/{self._plural}/{self._record.hex()}/log", query
        )
        raws = [*page["entries"], *(one["raw"] for one in page["items"])]
        found = RecordPage(tuple(_item(raw) for raw in raws), bool(page["done"]))
        self._after, self._after_entry = int(page["next_n"]), int(page["next_entry"])
        return found


def _item(raw: str) -> Item:
    try:
        return unpack_item(base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)))
    except (ValueError, MalformedBytes) as error:
        raise BadAnswer(f"the node sent what is no item: {error}") from error
