"""Every route of the API as it is declared, for descriptions made without a running node."""

from __future__ import annotations

from typing import Any, cast

from aiohttp import web

from node.api.accounts import AccountRoutes
from node.api.builds import routes as build_routes
from node.api.checkup import checkup_routes
from node.api.conflicts import conflict_routes
from node.api.docs import docs_routes
from node.api.node_routes import NodeRoutes
from node.api.openai import OpenAIRoutes
from node.api.record_log import record_log_routes
from node.api.records import record_routes
from node.api.royalties import RoyaltyRoutes


def declared_routes() -> list[web.RouteDef]:
    """Return what a node serves, in its order. The handlers have no parts: none may be called."""
    part = cast("Any", None)
    routes = [
        *NodeRoutes(part).routes(),
        *checkup_routes(part),
        *AccountRoutes(part, part).routes(),
        *record_routes(part),
        *record_log_routes(part),
        *conflict_routes(part),
        *build_routes(part, part),
        *OpenAIRoutes(part).routes(),
        *RoyaltyRoutes(part, part, part).routes(),
    ]
    return [*routes, *docs_routes(lambda: routes, lambda: "", "")]
