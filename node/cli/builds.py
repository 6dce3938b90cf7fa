"""`hansa build` and `hansa fetch`: the bytes of a record, packed, uploaded and fetched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import format as show
from node.cli import transfers
from node.cli.command import CREATOR, OPERATOR, command
from node.cli.progress import Meter
from node.cli.screen import sheet
from node.cli.session import Session

if TYPE_CHECKING:
    from rich.console import RenderableType

    from node.builds.packing import Packed
    from node.client import Client, CreatorAccount

STATUS_NOT_FOUND = 404
COPY_BYTES = 1 << 20
STORED = "complete/{digest}/tree"
"""Where a node's store keeps a build's files (docs/storage.md)."""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""

    @command(app, "build", uses=CREATOR, panel="Create", example="hansa build ./weights")
    def build(
        session: Session,
        path: Annotated[Path, typer.Argument(help="The folder or file to pack.")],
        upload_it: Annotated[
            bool,
            typer.Option("--upload/--no-upload", help="Send it to the node, or only pack it."),
        ] = True,
    ) -> None:
        """Pack a folder into a build, sign its manifest, and upload it to the node.

        The same files give the same build everywhere. An upload that broke off goes on where it
        stopped.
        """
        account = session.creator()
        if not upload_it:
            found = described(pack(session, account, path), sent=0)
        else:
            found = upload(session, session.client(creator=account), account, path)
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
        client = session.operator()
        if to is not None:
            _check_is_here(session)
        digest = digest_of(session, client, reference)
        events = client.events("POST", f"/v1/builds/{digest}/fetch")
        found = transfers.follow(session, f"Fetch {digest[:10]}", events, transfers.fetch_step)
        if to is not None:
            source = session.settings().settings.builds_folder / STORED.format(digest=digest)
            with Meter(session.screen, f"Copy to {to}") as meter:
                copy_files(found["files"], source, to, meter)
        session.screen.result(found, lambda: _fetched(found, to))


def _check_is_here(session: Session) -> None:
    """Check that the node keeps its builds on this machine, before anything is fetched for it.

    Raises:
        NotReady: its store is not here.
    """
    from node.cli.errors import NotReady

    folder = session.settings().settings.builds_folder
    if not folder.is_dir():
        raise NotReady(
            f"--to copies out of the node's own folder, and {folder} is not on this machine; run it"
            f" where {session.node_url} runs, or give that node's folder with --data-dir DIR"
        )


def pack(session: Session, account: CreatorAccount, path: Path) -> Packed:
    """Return a folder's signed manifest and tables, with a progress bar."""
    from node.builds import pack as pack_folder

    with Meter(session.screen, f"Pack {path.name}") as meter:
        return pack_folder(
            path,
            account.key,
            lambda at: meter.at(at.bytes_done, at.bytes_total, note=at.path),
        )


def upload(session: Session, client: Client, account: CreatorAccount, path: Path) -> dict[str, Any]:
    """Pack a folder, send what the node lacks of it, and return what was made."""
    from node.client import upload_build

    packed = pack(session, account, path)
    with Meter(session.screen, f"Upload {path.name}") as meter:
        sent = upload_build(client, packed, meter.at)
    return described(packed, sent=sent)


def described(packed: Packed, *, sent: int) -> dict[str, Any]:
    """Return what is to be said of a build that was packed."""
    manifest = packed.sealed.manifest
    return {
        "manifest": packed.sealed.digest.hex(),
        "media_type": manifest.media_type,
        "files": len(manifest.files),
        "bytes": manifest.size,
        "uploaded_bytes": sent,
    }


def digest_of(session: Session, client: Client, reference: str) -> str:
    """Return the digest of the build that a reference means: its own, or a record's first one.

    Raises:
        BadUsage: the record names no build.
    """
    from node.cli.errors import BadUsage
    from node.client import ApiProblem

    path = session.path_of(reference)
    for plural in ("models", "agents"):
        try:
            shown = client.get(f"/v1/{plural}/{path}")
        except ApiProblem as error:
            if error.status == STATUS_NOT_FOUND:
                continue
            raise
        builds: list[str] = shown["record"]["builds"]
        if not builds:
            raise BadUsage(f"{reference} names no build; its owner has published none")
        return builds[0]
    if "/" in session.reference(reference):
        raise BadUsage(f"there is no record {reference} at the node; search with `hansa models`")
    return reference


def copy_files(files: list[dict[str, Any]], source: Path, to: Path, meter: Meter) -> None:
    """Copy a build's files out of the node's store, comparing every byte with its SHA-256.

    Raises:
        NotReady: the node's store is not on this machine, or what is in it is not the build.
        UnreadableFile: the target cannot be written.
    """
    import hashlib

    from node.cli.errors import NotReady, UnreadableFile

    if not source.is_dir():
        raise NotReady(f"{source} is not here; give the node's folder with --data-dir DIR")
    total, done = sum(file["size"] for file in files), 0
    for file in files:
        target = to / file["path"]
        digest = hashlib.sha256()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with (source / file["path"]).open("rb") as reader, target.open("xb") as writer:
                while piece := reader.read(COPY_BYTES):
                    digest.update(piece)
                    writer.write(piece)
                    done += len(piece)
                    meter.at(done, total, note=file["path"])
            target.chmod(int(file["mode"], 8))
        except FileExistsError as error:
            raise UnreadableFile(
                f"{target} is there already, and nothing is overwritten; choose another folder"
            ) from error
        except OSError as error:
            raise UnreadableFile(f"{target} cannot be written: {error.strerror}") from error
        if digest.hexdigest() != file["sha256"]:
            target.unlink()
            raise NotReady(f"{source / file['path']} is damaged; run `hansa fetch` again")


def _fetched(found: dict[str, Any], to: Path | None) -> RenderableType:
    return sheet(
        {
            "manifest": found["digest"],
            "holds": f"{len(found['files'])} files, {show.size(found['size'])}, all verified",
            "copied to": to,
        },
        title="The node has the build",
    )


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
