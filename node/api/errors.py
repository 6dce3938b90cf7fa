"""What the HTTP API itself can find wrong with a request; `problems.py` has their statuses."""

from __future__ import annotations

from collections.abc import Sequence

from crdt import UserFault, WorldFault


class BadRequest(UserFault):
    """The request is not HTTP as this API takes it."""

    code = "bad-request"


class BadJson(UserFault):
    """The body is not UTF-8 JSON of the expected shape."""

    code = "bad-json"


class BadFields(UserFault):
    """Some fields of the body or query are not valid; all are listed.

    Attributes:
        problems: `{"field", "value", "message"}` for each.
    """

    code = "bad-fields"

    def __init__(self, what: str, problems: Sequence[dict[str, object]]) -> None:
        self.problems = tuple(problems)
        names = ", ".join(str(one["field"]) for one in problems[:5])
        super().__init__(f"{what} has {len(problems)} bad fields: {names}")


class WrongContentType(UserFault):
    """The body is declared to be something else than the route takes."""

    code = "wrong-content-type"


class BodyTooLarge(UserFault):
    """The body is over the route's bound."""

    code = "body-too-large"

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"the body is over {bytes_max} bytes, the most this path takes")


class BodyTimeout(UserFault):
    """The body took too long to arrive."""

    code = "body-timeout"


class NotFound(UserFault):
    """There is nothing under this path or id."""

    code = "not-found"


class MethodNotAllowed(UserFault):
    """The path exists and does not take the method."""

    code = "method-not-allowed"


class Gone(UserFault):
    """The record was deleted by its owner.

    Attributes:
        extra: Members that are added to the problem: what a write that brings it back must cite.
    """

    code = "gone"

    def __init__(self, message: str, *, extra: dict[str, object]) -> None:
        super().__init__(message)
        self.extra = extra


class Exists(UserFault):
    """A record is created that is there already."""

    code = "exists"


class StaleWrite(UserFault):
    """`If-Match` names a version that is no longer the one that shows."""

    code = "stale-write"


class WrongOwner(UserFault):
    """An account writes a record of another."""

    code = "wrong-owner"


class CardDiffers(UserFault):
    """A put changes what only card operations change."""

    code = "card-differs"


class UnknownAccount(UserFault):
    """The account that signed is not known here, and was not introduced."""

    code = "unknown-account"


class NotAuthorised(UserFault):
    """The key is not one of the account's."""

    code = "not-authorised"


class OperationMismatch(UserFault):
    """The signed operation says something else than the request that carries it."""

    code = "operation-mismatch"


class Unauthenticated(UserFault):
    """A bearer token is missing or wrong."""

    code = "unauthenticated"


class TooMany(WorldFault):
    """More streams or calls are open than the node holds."""

    code = "too-many"
