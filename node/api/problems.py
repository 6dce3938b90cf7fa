"""The one table from our errors to HTTP status, stable code and exit status.

Keyed by `code`, not by class, so that an error raised here and the same one read from a node's
answer end alike, and so that nothing heavy is imported to look one up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

from crdt import HansaError, RemoteFault, UserFault

DETAIL_CHARACTERS_MAX = 4000
PROBLEM_COUNT_MAX = 200
CONTENT_TYPE = "application/problem+json"


class Exit(IntEnum):
    """Exit statuses of every `hansa` command. Stable: scripts depend on them."""

    OK = 0
    BUG = 1
    USAGE = 2
    INVALID = 3
    NOT_FOUND = 4
    NOT_ALLOWED = 5
    CONFLICT = 6
    UNREACHABLE = 7
    PORT_IN_USE = 8
    DISK_FULL = 9
    STORE_NEWER = 10
    STORE_FAULT = 11
    KEYS = 12
    SETTINGS = 13
    ENGINE = 14
    DISTRUST = 15
    BUSY = 16


EXIT_MEANINGS: Mapping[Exit, str] = {
    Exit.OK: "done",
    Exit.BUG: "a bug in this program; please report it",
    Exit.USAGE: "the command was typed wrongly",
    Exit.INVALID: "the input is wrong; every fault is listed",
    Exit.NOT_FOUND: "there is no such thing, or no longer",
    Exit.NOT_ALLOWED: "the signature, token or key does not allow this",
    Exit.CONFLICT: "it exists already, or somebody changed it meanwhile",
    Exit.UNREACHABLE: "a node or peer does not answer",
    Exit.PORT_IN_USE: "a port the node needs is taken",
    Exit.DISK_FULL: "no space is left",
    Exit.STORE_NEWER: "the data was written by a newer program",
    Exit.STORE_FAULT: "a database is damaged, locked or cannot be written",
    Exit.KEYS: "a key file or passphrase is missing or wrong",
    Exit.SETTINGS: "a setting is wrong",
    Exit.ENGINE: "a model engine is missing, failed or does not fit this machine",
    Exit.DISTRUST: "bytes from outside are not what they should be",
    Exit.BUSY: "too much at once, or stopping; try again",
}


@dataclass(frozen=True, slots=True)
class Row:
    """What an error code becomes."""

    status: int
    exit: Exit
    title: str


_INVALID = Exit.INVALID
TABLE: Mapping[str, Row] = {
    # What our callers ask
    "user-fault": Row(400, _INVALID, "The request cannot be done"),
    "bad-request": Row(400, _INVALID, "The request cannot be read"),
    "bad-json": Row(400, _INVALID, "The body is not the JSON that is expected"),
    "bad-query": Row(422, _INVALID, "The query has bad parameters"),
    "bad-fields": Row(422, _INVALID, "Some fields are not valid"),
    "invalid-record": Row(422, _INVALID, "The record has bad fields"),
    "wrong-content-type": Row(415, _INVALID, "The body is of another content type"),
    "body-too-large": Row(413, _INVALID, "The body is too large"),
    "body-timeout": Row(408, Exit.BUSY, "The body did not arrive in time"),
    "not-found": Row(404, Exit.NOT_FOUND, "There is no such thing"),
    "method-not-allowed": Row(405, _INVALID, "This path does not take this method"),
    "gone": Row(410, Exit.NOT_FOUND, "It was deleted by its owner"),
    "exists": Row(409, Exit.CONFLICT, "It exists already"),
    "stale-write": Row(412, Exit.CONFLICT, "Somebody changed it meanwhile"),
    "ambiguous-reference": Row(409, Exit.CONFLICT, "The reference names more than one record"),
    "bad-reference": Row(422, _INVALID, "The reference cannot be read"),
    "unresolved": Row(422, _INVALID, "A dependency cannot be resolved"),
    "unsigned": Row(401, Exit.NOT_ALLOWED, "The request is not signed"),
    "unauthenticated": Row(401, Exit.NOT_ALLOWED, "A token is needed"),
    "bad-request-signature": Row(401, Exit.NOT_ALLOWED, "The request signature does not hold"),
    "replayed-request": Row(401, Exit.NOT_ALLOWED, "The request was received before"),
    "unknown-account": Row(401, Exit.NOT_ALLOWED, "The account is not known here"),
    "not-admitted": Row(403, Exit.NOT_ALLOWED, "The network does not admit the account"),
    "wrong-owner": Row(403, Exit.NOT_ALLOWED, "The record belongs to another account"),
    "not-authorised": Row(403, Exit.NOT_ALLOWED, "The key may not do this"),
    "operation-mismatch": Row(422, _INVALID, "The signed operation is not for this request"),
    "too-many-requests": Row(429, Exit.BUSY, "Too many requests"),
    "too-many": Row(429, Exit.BUSY, "Too many at once"),
    "secret-exists": Row(409, Exit.CONFLICT, "A secret would be overwritten"),
    "account-fault": Row(400, Exit.KEYS, "The account cannot be used"),
    "no-role": Row(403, Exit.NOT_ALLOWED, "The key on this machine has no role in the account"),
    "item-refused": Row(422, Exit.NOT_ALLOWED, "The node refused a signed item"),
    "change-pending": Row(409, Exit.CONFLICT, "A change of the account is not all sent yet"),
    "account-frozen": Row(409, Exit.CONFLICT, "The account's log forks"),
    "no-account": Row(400, Exit.KEYS, "No account is chosen"),
    "no-operator-token": Row(401, Exit.NOT_ALLOWED, "The operator's token cannot be read"),
    "wrong-passphrase": Row(400, Exit.KEYS, "The passphrase is wrong"),
    "keystore-fault": Row(500, Exit.KEYS, "A key file cannot be used"),
    "bad-network": Row(400, _INVALID, "The text names no network"),
    "bad-settings": Row(400, Exit.SETTINGS, "A setting is wrong"),
    "bad-usage": Row(400, Exit.USAGE, "The command was typed wrongly"),
    "unreadable-file": Row(400, _INVALID, "A file cannot be read"),
    "check-failed": Row(422, _INVALID, "The check says no"),
    "not-ready": Row(503, Exit.ENGINE, "Something that is needed is missing"),
    # Models and templates
    "bad-call": Row(400, _INVALID, "The call is not of the OpenAI dialect"),
    "model-not-found": Row(404, Exit.NOT_FOUND, "The model is not known here"),
    "no-offer": Row(503, Exit.UNREACHABLE, "No live peer serves it"),
    "price-too-high": Row(402, Exit.CONFLICT, "Every offer asks for more"),
    "all-offers-failed": Row(503, Exit.UNREACHABLE, "Every offer failed"),
    "engine-refused": Row(502, Exit.ENGINE, "The engine refused"),
    "engine-cut": Row(502, Exit.ENGINE, "The answer broke off"),
    "engine-unavailable": Row(503, Exit.ENGINE, "The engine is not there"),
    "engine-failed": Row(503, Exit.ENGINE, "The engine failed"),
    "engine-missing": Row(503, Exit.ENGINE, "The engine is not installed"),
    "engine-install-failed": Row(503, Exit.ENGINE, "The engine could not be installed"),
    "does-not-fit": Row(409, Exit.ENGINE, "The model does not fit this machine"),
    "cannot-serve": Row(409, Exit.ENGINE, "The model cannot be served here"),
    "bad-record": Row(422, _INVALID, "The record's bytes are not valid"),
    "network-failed": Row(500, Exit.BUG, "The network process cannot start"),
    "network-busy": Row(503, Exit.BUSY, "The network is busy"),
    "frame-too-large": Row(413, _INVALID, "It is more than the network carries"),
    "bad-template": Row(422, _INVALID, "The Formfile has errors"),
    # Builds
    "unknown-build": Row(404, Exit.NOT_FOUND, "The build is not known here"),
    "no-holder": Row(503, Exit.UNREACHABLE, "No live peer holds the build"),
    "build-busy": Row(409, Exit.BUSY, "The build is being worked on"),
    "build-damaged": Row(500, Exit.DISTRUST, "The build on disk is damaged"),
    "cannot-pack": Row(422, _INVALID, "The folder cannot be packed"),
    "upload-refused": Row(409, _INVALID, "The upload is refused"),
    "wrong-bytes": Row(422, Exit.DISTRUST, "The bytes are not those of the manifest"),
    "bad-manifest": Row(422, Exit.DISTRUST, "The manifest is not valid"),
    # Money
    "bad-statement": Row(422, Exit.DISTRUST, "The statement does not hold"),
    "missing-evidence": Row(422, Exit.DISTRUST, "Evidence is missing"),
    "bad-receipt": Row(422, Exit.DISTRUST, "The receipt does not hold"),
    "bad-order": Row(402, Exit.NOT_ALLOWED, "The order does not cover this"),
    "order-exhausted": Row(402, Exit.NOT_ALLOWED, "The order is used up"),
    "exposure-exceeded": Row(402, Exit.NOT_ALLOWED, "Too much is unpaid"),
    "call-too-dear": Row(402, Exit.CONFLICT, "The call costs more than is allowed"),
    "terms-changed": Row(409, Exit.CONFLICT, "The terms changed"),
    "lane-forked": Row(409, Exit.DISTRUST, "The lane has two histories"),
    "settlement-refused": Row(409, Exit.CONFLICT, "The settlement is refused"),
    "not-our-lane": Row(403, Exit.NOT_ALLOWED, "The lane is between others"),
    # Peers, and bytes from outside
    "remote-fault": Row(422, Exit.DISTRUST, "The bytes break a rule"),
    "malformed-bytes": Row(422, Exit.DISTRUST, "The bytes are malformed"),
    "bad-signature": Row(401, Exit.NOT_ALLOWED, "A signature does not verify"),
    "wrong-network": Row(422, Exit.DISTRUST, "It was signed for another network"),
    "causal-fault": Row(422, Exit.DISTRUST, "The operation contradicts what it cites"),
    "no-checkpoint": Row(422, Exit.INVALID, "The record cannot be put into a checkpoint"),
    "no-authority": Row(403, Exit.NOT_ALLOWED, "The key may not write this"),
    "card-full": Row(409, Exit.CONFLICT, "The card of this era has no room for it"),
    "edit-too-large": Row(413, _INVALID, "The edit is too large for one operation"),
    "not-taken": Row(409, Exit.BUSY, "The node lacks what it builds on"),
    "card-differs": Row(409, Exit.CONFLICT, "The put changes what the card holds"),
    "declined": Row(409, Exit.CONFLICT, "It builds on what this node has dropped"),
    "over-quota": Row(429, Exit.BUSY, "The account has used up its quota here"),
    "missing-items": Row(409, Exit.CONFLICT, "It builds on what is not known here yet"),
    "missing-account": Row(401, Exit.NOT_ALLOWED, "The account is not known here"),
    "grant-refused": Row(401, Exit.NOT_ALLOWED, "The grant does not admit this"),
    "grant-replayed": Row(401, Exit.NOT_ALLOWED, "The grant was used before"),
    "wrong-peer-key": Row(502, Exit.DISTRUST, "Another peer answered"),
    "peer-misbehaved": Row(502, Exit.DISTRUST, "The peer broke its protocol"),
    "peer-refused": Row(502, Exit.UNREACHABLE, "The peer refused"),
    "protocol-unspoken": Row(502, Exit.UNREACHABLE, "The peer does not speak that protocol"),
    "peer-unreachable": Row(502, Exit.UNREACHABLE, "The peer does not answer"),
    "bad-address": Row(422, _INVALID, "The address cannot be used"),
    "holder-hung": Row(502, Exit.UNREACHABLE, "A holder stopped answering"),
    "refused": Row(422, Exit.DISTRUST, "The request is refused"),
    "node-unreachable": Row(503, Exit.UNREACHABLE, "No node answers"),
    "connection-cut": Row(502, Exit.UNREACHABLE, "The connection broke off"),
    "bad-answer": Row(502, Exit.DISTRUST, "What answered is not a node"),
    "audit-failed": Row(422, Exit.DISTRUST, "The audit found something wrong"),
    "advert-fault": Row(422, Exit.DISTRUST, "The advert does not hold"),
    "advert-stale": Row(422, Exit.DISTRUST, "The advert is out of its time"),
    "update-refused": Row(422, Exit.DISTRUST, "The editor sent what a session does not take"),
    "edits-missing": Row(409, Exit.CONFLICT, "The editor builds on edits that never arrived"),
    "unknown-template": Row(404, Exit.NOT_FOUND, "There is no such template"),
    "unknown-wire-version": Row(422, Exit.DISTRUST, "The bytes are of another version"),
    # The world
    "world-fault": Row(503, Exit.BUSY, "It cannot be done now"),
    "card-engine": Row(500, Exit.BUG, "The card's document could not be made"),
    "port-in-use": Row(500, Exit.PORT_IN_USE, "A port is taken"),
    "cannot-listen": Row(500, Exit.SETTINGS, "An address cannot be bound"),
    "session-broken": Row(503, Exit.BUSY, "The live session cannot go on; start it again"),
    "storage-full": Row(507, Exit.DISK_FULL, "No space is left"),
    "store-newer": Row(500, Exit.STORE_NEWER, "The data is of a newer program"),
    "storage-corrupt": Row(500, Exit.STORE_FAULT, "A database is damaged"),
    "storage-busy": Row(503, Exit.STORE_FAULT, "A database is locked"),
    "storage-fault": Row(500, Exit.STORE_FAULT, "A database cannot be used"),
    "operator-not-admitted": Row(503, Exit.BUSY, "The operator's account is not admitted yet"),
    "ledger-busy": Row(503, Exit.BUSY, "The ledger is busy"),
    "already-running": Row(409, Exit.STORE_FAULT, "Another node uses this data folder"),
    "overloaded": Row(503, Exit.BUSY, "Too much at once"),
    "stopping": Row(503, Exit.BUSY, "The node is stopping"),
    "error": Row(500, Exit.BUG, "Something failed"),
    "bug": Row(500, Exit.BUG, "A bug in the node"),
}


def row_of(error: BaseException) -> Row:
    """Return what an error becomes: by its code, else by its kind, else as a bug of ours."""
    if not isinstance(error, HansaError):
        return TABLE["bug"]
    row = TABLE.get(error.code)
    if row is not None:
        return row
    if isinstance(error, UserFault):
        return TABLE["user-fault"]
    return TABLE["remote-fault"] if isinstance(error, RemoteFault) else TABLE["world-fault"]


def exit_status(error: BaseException) -> int:
    """Return the exit status a command ends with after `error`, raised here or read from a node."""
    code = getattr(error, "code", None)
    if isinstance(error, HansaError) and isinstance(code, str) and code not in TABLE:
        status = getattr(error, "status", None)
        if isinstance(status, int):  # a node newer than this program has codes we do not know
            return int(_exit_of_status(status))
    return int(row_of(error).exit)


def problem_document(
    error: BaseException, *, request_id: str, instance: str
) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the `application/problem+json` body (RFC 9457) of an error.

    What is not an error of ours is a bug: its text stays in the log, under the request id.
    """
    row = row_of(error)
    ours = isinstance(error, HansaError)
    detail = str(error) if ours else f"a bug in the node; its log has more under {request_id}"
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": row.title,
        "status": row.status,
        "code": error.code if isinstance(error, HansaError) else "bug",
        "detail": detail[:DETAIL_CHARACTERS_MAX],
        "instance": instance,
        "request_id": request_id,
    }
    problems = problems_of(error)
    if problems:
        document["problems"] = problems
    return row.status, document


def problems_of(error: BaseException) -> list[dict[str, Any]]:
    """Return every bad field that an error lists, as JSON."""
    found: Sequence[object] = getattr(error, "problems", ())
    return [_problem(one) for one in found[:PROBLEM_COUNT_MAX]]


def _problem(one: object) -> dict[str, Any]:
    if isinstance(one, Mapping):
        given = cast("Mapping[object, object]", one)
        return {str(name): value for name, value in given.items()}
    return {
        "field": str(getattr(one, "field", "")),
        "value": shown(getattr(one, "value", None)),
        "message": str(getattr(one, "message", one)),
    }


def shown(value: object) -> object:
    """Return a bad value as JSON can carry it, shortened."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 100 else text[:100] + "…"


def _exit_of_status(status: int) -> Exit:
    if status in (401, 402, 403):
        return Exit.NOT_ALLOWED
    if status in (404, 410):
        return Exit.NOT_FOUND
    if status in (409, 412):
        return Exit.CONFLICT
    if status in (429, 503):
        return Exit.BUSY
    return Exit.INVALID if status < 500 else Exit.BUG
