"""The user's own editor, opened on a text."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

FALLBACKS = ("sensible-editor", "nano", "vi")
"""Tried in this order when neither VISUAL nor EDITOR is set."""


def edited(text: str) -> str:
    """Return a text as a person left it in their editor.

    Raises:
        BadUsage: there is no editor, it failed, or what it left is no text.
    """
    from node.cli.errors import BadUsage

    command = _editor()
    folder = Path(tempfile.mkdtemp(prefix="hansa-edit-"))
    try:
        path = folder / "card.md"
        path.write_text(text, encoding="utf-8")
        try:
            status = subprocess.run([*command, str(path)], check=False).returncode
        except OSError as error:
            raise BadUsage(
                f"the editor {command[0]!r} does not start ({error.strerror}); set EDITOR to one "
                "that is there"
            ) from error
        if status:
            raise BadUsage(f"the editor {command[0]!r} ended with status {status}; nothing is sent")
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadUsage(f"what the editor left cannot be read: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kept(text: str) -> Path:
    """Write a text that could not be sent to a file of its owner's, and return where."""
    handle, name = tempfile.mkstemp(prefix="hansa-card-", suffix=".md")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return Path(name)


def _editor() -> list[str]:
    from node.cli.errors import BadUsage

    for name in ("VISUAL", "EDITOR"):
        chosen = os.environ.get(name, "").strip()
        if chosen:
            try:
                return shlex.split(chosen)
            except ValueError as error:
                raise BadUsage(f"{name}={chosen!r} is not a command: {error}") from error
    for name in FALLBACKS:
        if shutil.which(name):
            return [name]
    raise BadUsage("no editor is there; set EDITOR, or change the card by options (see --help)")
