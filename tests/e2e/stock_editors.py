"""Stock Yjs editors for tests: npm's yjs and y-websocket in Node, and pycrdt's Provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from pycrdt import Doc, Provider, Text

from tests.e2e import npm

SOURCE = Path(__file__).parent / "js"
PATIENCE_S = 20


def install() -> Path:
    """Install the editors, once per lock; return the folder."""
    return npm.install(SOURCE)


class JsEditors:
    """One Node process with any number of editors, by name."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._shown: dict[str, dict] = {}
        self._changed = asyncio.Condition()

    def do(self, editor: str, action: str, **arguments) -> None:
        """Have an editor do something; it does so in order, later."""
        command = {"editor": editor, "do": action, **arguments}
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    def open(self, editor: str, server, *, room: str | None = None, root: str = "text") -> None:
        self.do(editor, "open", url=server.url, room=room or server.room, root=root)

    def text(self, editor: str) -> str | None:
        return self._shown.get(editor, {}).get("text")

    async def until(self, editor: str, holds: Callable[[dict], bool]) -> dict:
        """Wait until what an editor shows is so."""
        async with self._changed:
            async with asyncio.timeout(PATIENCE_S):
                await self._changed.wait_for(
                    lambda: editor in self._shown and holds(self._shown[editor])
                )
            return self._shown[editor]

    async def until_text(self, editor: str, text: str) -> None:
        try:
            await self.until(editor, lambda shown: shown["text"] == text)
        except TimeoutError:
            pytest.fail(f"{editor} shows {self.text(editor)!r}, not {text!r}")

    async def until_synced(self, editor: str) -> None:
        await self.until(editor, lambda shown: shown["synced"])

    async def read(self) -> None:
        async for line in self._process.stdout:
            shown = json.loads(line)
            async with self._changed:
                self._shown[shown["editor"]] = shown
                self._changed.notify_all()


@asynccontextmanager
async def js_editors(folder: Path) -> AsyncIterator[JsEditors]:
    """Start the program; end it and its editors at the end."""
    program = npm.program(folder, SOURCE, "editors.mjs")
    process = await asyncio.create_subprocess_exec(
        "node",
        program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    editors = JsEditors(process)
    reading = asyncio.create_task(editors.read())
    try:
        yield editors
    finally:
        process.stdin.close()
        await process.wait()
        await reading


class _SocketChannel:
    """What pycrdt's Provider speaks through."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, path: str) -> None:
        self._socket = socket
        self.path = path

    def __aiter__(self) -> _SocketChannel:
        return self

    async def __anext__(self) -> bytes:
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise StopAsyncIteration
        return message.data

    async def send(self, message: bytes) -> None:
        await self._socket.send_bytes(message)

    async def recv(self) -> bytes:
        return await self.__anext__()


class PycrdtEditor:
    """An editor on pycrdt. Its `Text` counts bytes; this counts characters."""

    def __init__(self, doc: Doc, root: str) -> None:
        self.doc = doc
        self._text = doc.get(root, type=Text)
        self._changed = asyncio.Event()
        self._watch = doc.observe(lambda _event: self._changed.set())

    @property
    def text(self) -> str:
        return str(self._text)

    def insert(self, at: int, insert: str) -> None:
        self._text.insert(len(self.text[:at].encode()), insert)

    def remove(self, at: int, length: int) -> None:
        start = len(self.text[:at].encode())
        end = len(self.text[: at + length].encode())
        del self._text[start:end]

    async def until(self, holds: Callable[[str], bool]) -> None:
        """Wait until the text is so."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds(self.text):
                self._changed.clear()
                await self._changed.wait()

    async def until_text(self, text: str) -> None:
        try:
            await self.until(lambda shown: shown == text)
        except TimeoutError:
            pytest.fail(f"the pycrdt editor shows {self.text!r}, not {text!r}")

    def close(self) -> None:
        self.doc.unobserve(self._watch)


@asynccontextmanager
async def pycrdt_editor(server, *, root: str = "text") -> AsyncIterator[PycrdtEditor]:
    """Connect pycrdt's own Provider, synced."""
    doc = Doc()
    editor = PycrdtEditor(doc, root)
    async with aiohttp.ClientSession() as session:
        path = f"/{server.room}"
        async with session.ws_connect(f"http://127.0.0.1:{server.port}{path}") as socket:
            async with Provider(doc, _SocketChannel(socket, path)) as provider:
                async with asyncio.timeout(PATIENCE_S):
                    await provider.synced.wait()
                yield editor
            editor.close()
