"""`hansa build` and `hansa fetch`: the bytes of a record, packed, uploaded and fetched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import format as show
from node.cli.command import CREATOR, OPERATOR, command
from node.cli.progress import Meter
from node.cli.screen import sheet
from node.cli.session import Session

if TYPE_CHECKING:
    from rich.console import RenderableType

    from node.builds.packing import Packed
    from node.client import CreatorAccount


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""

    @command(app, "build", uses=CREATOR, panel="Create", example="hansa build ./weights")
    def build(
        session: Session,
        path: Annotated[Path, typer.Argument(help="The folder or file to pack.")],
        upload: Annotated[
            bool, typer.Option(help="Send the build to the node; without it, only pack.")
        ] = True,
    ) -> None:
        """Pack a folder into a build, sign its manifest, and upload it to the node.

        The same files give the same build everywhere; an upload that broke off goes on where it was.
        """
        found = build_and_upload(session, session.creator(), path, upload=upload)
        session.screen.result(found, lambda: _built(found))

    @command(
        app,
        "fetch",
        uses=OPERATOR,
        panel="Operate",
        example="hansa fetch anna/tiny-chat --to ./out",
    )
    def fetch(
        session: Session,
        reference: Annotated[
            str, typer.Argument(metavar="REF", help="A build's digest, or a record that names one.")
        ],
        to: Annotated[
            Path | None, typer.Option("--to", metavar="DIR", help="Copy the files here as well.")
        ] = None,
    ) -> None:
        """Fetch a build to the node from whoever holds it, every chunk verified."""
        raise NotImplementedError


def pack(session: Session, account: CreatorAccount, path: Path) -> Packed:
    """Return a folder's signed manifest and tables, with a progress bar."""
    from node.builds import pack as pack_folder

    with Meter(session.screen, f"Pack {path.name}") as meter:
        return pack_folder(
            path,
            account.key,
            lambda at: meter.at(at.bytes_done, at.bytes_total, note=at.path),
        )


def build_and_upload(
    session: Session, account: CreatorAccount, path: Path, *, upload: bool
) -> dict[str, Any]:
    """Pack a folder, send what the node lacks of it, and return what was made."""
    from node.client import upload_build

    packed = pack(session, account, path)
    sent = 0
    if upload:
        client = session.client(creator=account)
        with Meter(session.screen, f"Upload {path.name}") as meter:
            sent = upload_build(client, packed, lambda done, total: meter.at(done, total))
    files = packed.sealed.manifest.files
    return {
        "manifest": packed.sealed.digest.hex(),
        "media_type": packed.sealed.manifest.media_type,
        "files": len(files),
        "bytes": sum(file.size for file in files),
        "uploaded_bytes": sent,
    }


def _built(found: dict[str, Any]) -> RenderableType:
    return sheet(
        {
            "manifest": found["manifest"],
            "holds": f"{found['files']} files, {show.size(found['bytes'])}",
            "kind": found["media_type"],
            "uploaded": show.size(found["uploaded_bytes"]),
        },
        title="The build is ready; name it in a record's `builds`",
    )
