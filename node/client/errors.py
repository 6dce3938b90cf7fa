"""What can go wrong between this program and a node's HTTP API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crdt import RemoteFault, UserFault, WorldFault


class NodeUnreachable(WorldFault):
    """No node answers where one was expected."""

    code = "node-unreachable"


class ConnectionCut(WorldFault):
    """The node's answer ended before it was complete."""

    code = "connection-cut"


class BadAnswer(RemoteFault):
    """What answered is not a Hansa node, or not one this program understands."""

    code = "bad-answer"


class NoOperatorToken(UserFault):
    """The operator's token of the node cannot be read on this machine."""

    code = "no-operator-token"


class WrongNode(UserFault):
    """The node is on another network than the account that signs."""

    code = "wrong-network"


class ApiProblem(UserFault):
    """The node refused a request and said why.

    Attributes:
        code: The node's stable code, which decides the exit status like the same error raised here.
        status: The HTTP status.
        problems: For a record with bad fields, every one: `{"field", "value", "message"}`.
        document: The whole problem document, which may say more.
    """

    def __init__(
        self,
        *,
        status: int,
        code: str,
        message: str,
        problems: Sequence[Mapping[str, Any]] = (),
        document: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.problems = tuple(problems)
        self.document = document or {}
