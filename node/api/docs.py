"""`/openapi.json` and `/docs`: the description of the API, and a page to read it and try it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from node.api.openapi import openapi_document
from node.api.operations import operation

WEB = Path(__file__).parent.parent / "web"
FILES = {
    "/docs": ("docs.html", "text/html"),
    "/docs/docs.js": ("docs.js", "text/javascript"),
    "/docs/docs.css": ("docs.css", "text/css"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
)
"""Nothing from elsewhere: the page works without a network, and runs no script but its own."""


def docs_routes(
    routes: Callable[[], Sequence[web.RouteDef]], url: Callable[[], str], version: str
) -> list[web.RouteDef]:
    """Return the routes of the description; `routes` is asked once, when all have been added."""
    made: list[bytes] = []

    @operation(
        summary="This description", tag="node", responses={200: "application/vnd.oai.openapi+json"}
    )
    async def openapi(_request: web.Request) -> web.StreamResponse:
        """Return the OpenAPI 3.1 document of this API."""
        if not made:
            document = openapi_document(routes(), version=version, url=url())
            made.append(json.dumps(document, ensure_ascii=False).encode())
        return web.Response(body=made[0], content_type="application/json")

    return [
        web.get("/openapi.json", openapi, allow_head=False),
        *(_file(path, name, kind) for path, (name, kind) in FILES.items()),
        web.get("/", _to_docs, allow_head=False),
    ]


def _file(path: str, name: str, kind: str) -> web.RouteDef:
    body = (WEB / name).read_bytes()

    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=body,
            content_type=kind,
            charset="utf-8",
            headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"},
        )

    return web.get(path, handle, allow_head=False)


async def _to_docs(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "/docs"})
