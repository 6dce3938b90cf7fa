"""What can go wrong with a model call, with the status and type an OpenAI client understands."""

from __future__ import annotations

from crdt import HansaError, UserFault, WorldFault
from inference import NoOffer


class BadCall(UserFault):
    """The request body is not one of the OpenAI dialect."""

    code = "bad-call"


class NoModel(UserFault):
    """The `model` of a call names nothing that is known here."""

    code = "model-not-found"


class TooManyCalls(WorldFault):
    """As many calls as are allowed are under way."""

    code = "too-many"


class EngineRefused(WorldFault):
    """An engine or a provider refused before its first byte; another offer may take the call.

    Attributes:
        status: The HTTP status it gave, or the one inside its first event.
        fatal: The call itself is wrong (4xx): no other host would take it either.
    """

    code = "engine-refused"

    def __init__(self, message: str, *, status: int = 503, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body

    @property
    def fatal(self) -> bool:
        """Whether trying elsewhere is pointless."""
        return 400 <= self.status < 500 and self.status not in (401, 402, 403, 408, 409, 425, 429)


class EngineCut(WorldFault):
    """An answer broke off after its first byte."""

    code = "engine-cut"


class AllRefused(WorldFault):
    """Every offer that was tried failed before its first byte."""

    code = "all-offers-failed"


_STATUS: dict[type[HansaError], tuple[int, str]] = {
    BadCall: (400, "invalid_request_error"),
    NoModel: (404, "invalid_request_error"),
    NoOffer: (503, "server_error"),
    TooManyCalls: (429, "rate_limit_error"),
    AllRefused: (503, "server_error"),
    EngineRefused: (502, "server_error"),
    EngineCut: (502, "server_error"),
}


def openai_error(error: HansaError) -> tuple[int, dict[str, object]]:
    """Return the HTTP status and the body, in OpenAI's shape, that tell a client of an error."""
    status, kind = next(
        (found for class_, found in _STATUS.items() if isinstance(error, class_)),
        (500, "server_error"),
    )
    body = {"message": str(error), "type": kind, "param": None, "code": error.code}
    return status, {"error": body}
