"""The node's HTTP API as this program uses it: who asks, and what comes back.

Three ways to ask: as anybody (reads of the replicated plane), as the node's operator (a bearer
token from the node's data folder), and as a creator (a signed request, and for a write a signed
operation: the node signs nothing for anybody).
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote

from crdt import Item, PublicKey, id_from_hex
from node import signing
from node.client.accounts import AccountCard, CreatorAccount, NoRole, role_of
from node.client.errors import WrongNode
from node.client.http import Answer, Event, Http, Query, Request, query_string
from node.client.logs import AccountLog

JSON_TYPE = "application/json"
PAGE_RECORDS = 200
"""The most a page may hold; fewer round trips."""


class Client:
    """One node, asked by one person. Close it, or use it as a context manager."""

    def __init__(
        self,
        url: str,
        *,
        operator_token: str | None = None,
        creator: CreatorAccount | None = None,
    ) -> None:
        self._http = Http(url)
        self._token = operator_token
        self._creator = creator
        self._node: dict[str, Any] | None = None
        self._log: AccountLog | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The node's base URL."""
        return self._http.url

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def cut(self) -> None:
        """End for good what another thread asks with this client: it fails there."""
        self._http.cut()

    def node(self) -> dict[str, Any]:
        """Return what the node says of itself, asked once."""
        if self._node is None:
            self._node = found = cast("dict[str, Any]", self.get("/v1/node"))
            return found
        return self._node

    def get(self, path: str, query: Query | None = None) -> Any:
        """Return the JSON at a path."""
        return self.answer("GET", path, query=query).json()

    def post(self, path: str, value: Any, query: Query | None = None) -> Any:
        """Send JSON and return the JSON that comes back, or None for an empty answer."""
        answer = self.answer("POST", path, query=query, value=value)
        return answer.json() if answer.body else None

    def delete(self, path: str, query: Query | None = None) -> Any:
        """Delete what is at a path, as the operator."""
        answer = self.answer("DELETE", path, query=query)
        return answer.json() if answer.body else None

    def answer(
        self, method: str, path: str, *, query: Query | None = None, value: Any = None
    ) -> Answer:
        """Send a request as the operator if this client has the token, else as anybody."""
        return self._http.send(self._plain(method, path, query, value))

    def events(self, method: str, path: str, value: Any = None) -> Iterator[Event]:
        """Send a request as the operator and yield the events of the answer as they come."""
        request = self._plain(method, path, None, value)
        return self._http.events(request)

    def write(
        self,
        method: str,
        path: str,
        value: Mapping[str, Any] | None,
        operation: Item | None,
        *,
        if_match: str | None = None,
    ) -> Any:
        """Send a creator's signed request, with a signed operation if it writes a record.

        The account introduces itself each time: a node that knows it already loses 300 bytes.
        """
        headers: dict[str, str] = {}
        body = b"" if value is None else _json_bytes(value)
        if value is not None:
            headers["Content-Type"] = JSON_TYPE
        if if_match is not None:
            headers["If-Match"] = f'"{if_match}"'
        answer = self.signed(Request(method, path, "", body, headers), operation)
        return answer.json() if answer.body else None

    def signed(self, request: Request, operation: Item | None = None) -> Answer:
        """Send a request signed by the creator, and return its successful answer.

        Raises:
            WrongNode: the creator's account is for another network than the node.
        """
        return self._http.send(self._sign(request, operation))

    def account_log(self) -> AccountLog:
        """Return the creator's account as this machine and the node know it together.

        Asked once. The node is handed the entries that it lacks, so that it can judge what this
        creator signs; a genesis alone travels with the first write.

        Raises:
            WrongNode: the account is for another network.
            NoRole: this machine's key has no role in the account, not yet or not any more.
            BadAnswer: the node's entries do not hold.
        """
        assert self._creator is not None, "a client that signs is made with a creator"
        if self._log is None:
            self._log = self._agreed_log(self._creator.card)
            _check_role(self._creator.card, self._log, url=self.url)
        return self._log

    def _agreed_log(self, card: AccountCard) -> AccountLog:
        from node.client.handing import fetch_log, hand_in, refusal, texts

        self._identity(card)
        there = fetch_log(self, card.account, card.network)
        if card.log is None:
            if there is None:
                raise NoRole(
                    f"the node at {self.url} does not know account {card.account.hex()[:16]}; its "
                    "owner publishes something first, or name another node with --node URL"
                )
            return there
        known = there.ids if there else frozenset[bytes]()
        lacking = [item for item in card.log.items if item.id not in known]
        if there is None and len(lacking) == 1:
            return card.log
        refused = hand_in(self, texts(lacking)) if lacking else []
        if refused:
            raise refusal(refused[0])
        return card.log.joined(there.items, card.network) if there else card.log

    def _sign(self, request: Request, operation: Item | None) -> Request:
        assert self._creator is not None, "a client that signs is made with a creator"
        card = self._creator.card
        node = self._identity(card)
        log = self.account_log()
        carried = b"" if operation is None else signing.operation_header(operation).encode()
        facts = signing.RequestFacts(
            card.network, node, request.method, request.path, request.query, request.body, carried
        )
        headers = dict(request.headers)
        headers[signing.AUTHORIZATION] = signing.authorization(
            facts,
            card.account,
            self._creator.key,
            now_s=int(time.time()),  # noqa: TID251 - a client is an edge
            nonce=secrets.token_bytes(signing.NONCE_BYTES),
        )
        headers[signing.ACCOUNT_HEADER] = signing.account_header(log.items[0])
        if operation is not None:
            headers[signing.OPERATION_HEADER] = carried.decode()
        return replace(request, headers=headers)

    def check_network(self, card: AccountCard) -> None:
        """Return if the node is on an account's network.

        Raises:
            WrongNode: it is on another one.
        """
        self._identity(card)

    def _identity(self, card: AccountCard) -> PublicKey:
        """Return the node's key after checking that the node is on the account's network."""
        node = self.node()
        if node["network_id"] != card.network.hex():
            raise WrongNode(
                f"account {card.name!r} is for network {card.network_name!r}, and the node at"
                f" {self.url} is on {node['network']!r}; use another node or account, or make one"
                f" with `hansa account create NAME --network {node['network']}`"
            )
        return PublicKey(id_from_hex(node["public_key"], "node key"))

    def pages(self, path: str, query: Mapping[str, Any], *, limit: int) -> Iterator[dict[str, Any]]:
        """Yield pages of a listing until `limit` entries came or there are no more."""
        left, cursor = limit, None
        while left > 0:
            asked = {**query, "limit": min(left, PAGE_RECORDS), "cursor": cursor}
            page = self.get(path, asked)
            yield page
            left -= len(page["items"])
            cursor = page.get("next_cursor")
            if not cursor or not page["items"]:
                return

    def _plain(self, method: str, path: str, query: Query | None, value: Any) -> Request:
        headers: dict[str, str] = {}
        body = b""
        if value is not None:
            body = _json_bytes(value)
            headers["Content-Type"] = JSON_TYPE
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        return Request(method, path, query_string(query or {}), body, headers)


def _check_role(card: AccountCard, log: AccountLog, *, url: str) -> None:
    """Return if the key of this machine may act for the account.

    Raises:
        NoRole: it may not; the message says who can change that.
    """
    match role_of(card.key, log):
        case "pending":
            raise NoRole(
                f"account {card.name!r} has granted the key of this machine nothing, as far as the "
                f"node at {url} knows; its owner runs `hansa account delegate NAME --key "
                f"{card.key.hex()} --as maintainer`"
            )
        case "ended":
            raise NoRole(
                f"the key of this machine ({card.key.hex()[:16]}) was ended by the owner of "
                f"account {card.name!r}; join it again under another name with `hansa account join`"
            )
        case _:
            pass


def quoted(segment: str) -> str:
    """Return one path segment with everything that is not plain text escaped."""
    return quote(segment, safe="")


def _json_bytes(value: Any) -> bytes:
    # ASCII only: text from a file or an argument may hold halves of characters.
    return json.dumps(value, separators=(",", ":")).encode()
