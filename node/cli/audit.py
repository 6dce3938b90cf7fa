"""`hansa audit`: has somebody tampered with a record? The node is asked for bytes, not for answers.

Its log of the record is judged here from the beginning, and what follows is compared with what the
node shows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.command import NODE, command
from node.cli.session import Session

if TYPE_CHECKING:
    from crdt import Audit, AuditedOperation, NetworkId
    from node.cli.audit_compare import LocalSet
    from node.client import Client

LOG_BYTES_MAX = 256 * 1024 * 1024
"""Of one record and its account: a hundred times what an active one has."""
LOOK_COUNT_MAX = 5
"""Looks at a record that changes while it is read, before that is told."""
PREFIX_DIGITS_MIN = 4
KINDS = ("models", "agents")
NOT_THERE = ("not-found", "gone")


@dataclass(frozen=True, slots=True)
class Looked:
    """What a node gave and shows.

    Attributes:
        raws: Account entries, then operations.
        conflicts: Its answer about concurrent writes.
        shown: The record as it shows it; None if it shows none.
    """

    raws: tuple[bytes, ...]
    conflicts: Mapping[str, Any]
    shown: Mapping[str, Any] | None


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @command(
        app,
        "audit",
        uses=NODE,
        panel="Operate",
        example="hansa audit anna/my-model --svg history.svg",
    )
    def audit(
        session: Session,
        reference: Annotated[
            str, typer.Argument(metavar="REF", help="A record: its id, or `owner/slug`.")
        ],
        operation: Annotated[
            str | None,
            typer.Option(metavar="ID", help="Show everything about this operation."),
        ] = None,
        svg: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Draw the history as a picture.")
        ] = None,
        agents: Annotated[
            bool, typer.Option("--agent", help="An agent, where a model has the same name.")
        ] = False,
    ) -> None:
        """Check everything that was ever signed about a record, and say why it shows what it does.

        Nothing the node says is believed: every id, signature, citation and authority is checked
        here, the state is derived anew, and a difference from what the node shows ends with a
        status other than zero. Conflicts, equivocations and forks are told, and are no failure.
        """
        run(session, reference, operation, svg, kinds=KINDS[1:] if agents else KINDS)


def run(
    session: Session,
    reference: str,
    operation: str | None,
    svg: Path | None,
    *,
    kinds: tuple[str, ...],
) -> None:
    """Audit one record and show what was found.

    Raises:
        AuditFailed: the log holds what is not valid, or the node shows something else.
    """
    from node.cli.audit_compare import differences

    client = session.client()
    network = _network(client)
    looked, local, found = _looked(client, network, session.path_of(reference), kinds)
    labels = local.labels(found.record)
    mine = local.view(found.record) if found.register is not None else None
    wrong = differences(found, mine, looked.conflicts, looked.shown)
    one = _chosen(found, operation) if operation is not None else None
    if svg is not None:
        _draw(svg, found, labels, title=reference)
    _show(session, found, labels, wrong, one)
    if svg is not None:
        session.screen.note(f"The picture is in {svg}; any browser shows it")
    _check(found, wrong)


def _check(found: Audit, wrong: list[str]) -> None:
    from node.cli.errors import AuditFailed

    said: list[str] = []
    if found.refusals:
        first = found.refusals[0]
        said.append(
            f"{len(found.refusals)} of the items in the log are not valid, the first because "
            f"{first.message}"
        )
    if wrong:
        said.append(f"the node shows something else than follows from its log: {wrong[0]}")
    if said:
        raise AuditFailed("; ".join(said))


def _network(client: Client) -> NetworkId:
    from crdt import NetworkId, id_from_hex

    return NetworkId(id_from_hex(client.node()["network_id"], "network"))


def _looked(
    client: Client, network: NetworkId, path: str, kinds: tuple[str, ...]
) -> tuple[Looked, LocalSet, Audit]:
    """Return what the node gave and shows at one moment, and what follows from it."""
    from crdt import RecordId, audit, id_from_hex
    from node.cli.audit_compare import LocalSet

    plural, first = _first(client, path, kinds)
    looked = first
    for _ in range(LOOK_COUNT_MAX):
        again = _look(client, plural, path)
        if again == looked:
            break
        looked = again  # the record changed while it was read
    record = RecordId(id_from_hex(looked.conflicts["record_id"], "record"))
    local = LocalSet(network)
    return looked, local, audit(local.replica, record, looked.raws)


def _first(client: Client, path: str, kinds: tuple[str, ...]) -> tuple[str, Looked]:
    """Return which kind a record is of, and a first look at it."""
    from node.client import ApiProblem

    for plural in kinds[:-1]:
        try:
            return plural, _look(client, plural, path)
        except ApiProblem as problem:
            if problem.code != "not-found":
                raise
    return kinds[-1], _look(client, kinds[-1], path)


def _look(client: Client, plural: str, path: str) -> Looked:
    from node.client import ApiProblem

    base = f"/v1/{plural}/{path}"
    conflicts = client.get(f"{base}/conflicts")
    shown: dict[str, Any] | None = None
    try:
        shown = client.get(base)
    except ApiProblem as problem:
        if problem.code not in NOT_THERE:
            raise
    return Looked(_log(client, base), conflicts, shown)


def _log(client: Client, base: str) -> tuple[bytes, ...]:
    """Return a record's whole log.

    Raises:
        BadAnswer: it has no end, or is larger than any log may be.
    """
    from node.client import BadAnswer

    entries: list[bytes] = []
    items: list[bytes] = []
    after, after_entry, size, done = 0, 0, 0, False
    while not done:
        page = client.get(f"{base}/log", {"after": after, "after_entry": after_entry})
        new = [_bytes_of(text) for text in page["entries"]]
        more = [_bytes_of(one["raw"]) for one in page["items"]]
        entries += new
        items += more
        size += sum(map(len, (*new, *more)))
        after, after_entry, done = page["next_n"], page["next_entry"], page["done"]
        if not done and not (new or more):
            raise BadAnswer("the node says that more of the log comes, and sends nothing")
        if size > LOG_BYTES_MAX:
            raise BadAnswer(f"the record's log is over {LOG_BYTES_MAX >> 20} MiB; it is not read")
    return (*entries, *items)


def _bytes_of(text: str) -> bytes:
    import base64
    import binascii

    from node.client import BadAnswer

    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadAnswer(f"an item of the log is not base64url: {error}") from error


def _chosen(found: Audit, text: str) -> AuditedOperation:
    """Return the one operation whose id begins so.

    Raises:
        BadUsage: none or several do.
    """
    from node.cli.errors import BadUsage

    fits = [one for one in found.operations if one.operation.id.hex().startswith(text.lower())]
    if len(text) < PREFIX_DIGITS_MIN or len(fits) != 1:
        raise BadUsage(
            f"--operation {text[:64]!r} fits {len(fits)} of the record's operations; give the "
            f"first {PREFIX_DIGITS_MIN} or more digits of one's id"
        )
    return fits[0]


def _show(
    session: Session,
    found: Audit,
    labels: Mapping[Any, str],
    wrong: list[str],
    one: AuditedOperation | None,
) -> None:
    from node.cli import audit_json, audit_view

    now_s = int(time.time())  # noqa: TID251 - the command line is an edge
    if one is not None:
        session.screen.result(
            audit_json.operation_json(found, one, labels),
            lambda: audit_view.operation_sheet(found, one, labels, now_s=now_s),
        )
        return
    session.screen.result(
        audit_json.audit_json(found, labels, wrong),
        lambda: audit_view.report(found, labels, wrong, now_s=now_s),
    )


def _draw(path: Path, found: Audit, labels: Mapping[Any, str], *, title: str) -> None:
    from node.cli.audit_view import picture_titles
    from node.cli.audit_words import summary
    from node.cli.dag_picture import Words, picture
    from node.cli.errors import UnreadableFile

    words = Words(title, tuple(summary(found, labels)), labels, picture_titles(found, labels))
    try:
        path.write_text(picture(found, words), encoding="utf-8")
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be written: {error.strerror}") from error
