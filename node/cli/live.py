"""`hansa models edit --live`: stock Yjs editors edit a card, signed with the key of this command.

The only module of the command line that imports `node.live`, and with it aiohttp
(docs/decisions/0013).
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from crdt import HansaError, Operation, PublicKey
from node.cli.editing import open_copy
from node.cli.live_card import LiveCard
from node.cli.live_screen import ROOT, LiveScreen, Place
from node.client import Client, RecordCopy
from node.live import LiveServer

if TYPE_CHECKING:
    from node.cli.session import Session

LOOK_EVERY_S = 0.25
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def edit_live(
    session: Session, plural: str, reference: str, *, port: int, origins: Sequence[str]
) -> None:
    """Open a record's text for editors until Ctrl-C, and publish what they do.

    Raises:
        NoAuthority: the key may not edit the text, or was revoked meanwhile.
        HansaError: something was not published; what that is has been said.
    """
    account = session.creator()
    copy = open_copy(session, plural, reference, account)
    with ExitStack() as stack:
        screen = LiveScreen(
            session.screen,
            name_of=lambda one: _name(copy, one, account.key.public),
            counts=lambda: (server.editor_count, card.waiting_count),
        )
        card = LiveCard(
            copy,
            account.key,
            connect=lambda: Client(session.node_url),
            watch=screen,
            now_s=_now_s,
        )
        stack.callback(card.close)
        slug = copy.slug
        server = LiveServer(card, port, name=slug, root=ROOT, origins=origins, notice=screen.notice)
        card.back = server.publish_now
        fault = asyncio.run(_serve(server, card, screen, reference))
        text = card.text()
        lost_count = card.waiting_count
        screen.ended(
            digest=copy.card().digest().hex(),
            text=text,
            lost_count=lost_count,
            kept=_kept(text, slug) if lost_count else None,
        )
    if fault is not None:
        raise fault


async def _serve(
    server: LiveServer, card: LiveCard, screen: LiveScreen, reference: str
) -> HansaError | None:
    """Run the session; return why it ended, if not because the person wanted it to."""
    fault: HansaError | None = None
    try:
        async with server:
            place = Place(server.url, server.room, reference, card.copy.record.hex())
            screen.started(place)
            with screen:
                fault = await _first_end(card.follow(), server.wait(), _look(screen), _stopped())
                screen.notice("ending: taking in what editors have, and publishing it")
    except HansaError as error:
        fault = fault or error
    return fault


async def _first_end(*ways: Coroutine[Any, Any, None]) -> HansaError | None:
    """Wait for one of these to end and return the fault it ended with; the others are ended."""
    tasks = [asyncio.create_task(way) for way in ways]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    done = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    error = done[0].exception()
    if error is not None and not isinstance(error, HansaError):
        raise error
    return error


async def _stopped() -> None:
    """Wait for the first signal that ends a program; the second one ends it at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for one in SIGNALS:
        loop.add_signal_handler(one, stop.set)
    try:
        await stop.wait()
    finally:
        for one in SIGNALS:
            loop.remove_signal_handler(one)


async def _look(screen: LiveScreen) -> NoReturn:
    while True:
        screen.look()
        await asyncio.sleep(LOOK_EVERY_S)


def _name(copy: RecordCopy, operation: Operation, own: PublicKey) -> str:
    """Return who wrote an operation, as far as can be told."""
    if operation.key == own:
        return "your own key"
    if operation.key == copy.account.root_key:
        return "the owner"
    return f"delegate {operation.key.hex()[:8]}"


def _kept(text: str, slug: str) -> Path:
    """Write a text where its editor finds it again; return where."""
    with tempfile.NamedTemporaryFile(
        "w", prefix=f"hansa-{slug}-", suffix=".md", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
        return Path(file.name)


def _now_s() -> int:
    return int(time.time())  # noqa: TID251 - the command line is an edge
