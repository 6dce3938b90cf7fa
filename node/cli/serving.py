"""`hansa serve`, `serving`, `offers`, `route`: models this node and others run now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import format as show
from node.cli import transfers
from node.cli.command import NODE, OPERATOR, command
from node.cli.screen import sheet, stack, table
from node.cli.session import Session

if TYPE_CHECKING:
    from rich.console import RenderableType

route_group = typer.Typer(no_args_is_help=True, help="How a call would be routed, and why.")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(route_group, name="route", rich_help_panel="Operate")

    @command(app, "serve", uses=OPERATOR, panel="Operate", example="hansa serve anna/tiny-chat")
    def serve(
        session: Session,
        reference: Annotated[
            str, typer.Argument(metavar="REF", help="A model: its id, or `owner/slug`.")
        ],
        stop: Annotated[bool, typer.Option("--stop", help="Stop serving it.")] = False,
    ) -> None:
        """Fetch a model's build if needed, start its engine, prove it, and offer it."""
        client = session.operator()
        record = session.record_id("models", reference)
        if stop:
            client.delete(f"/v1/serving/{record}")
            session.screen.result({"stopped": record}, lambda: sheet({"stopped": record}))
            return
        events = client.events("POST", "/v1/serving", {"record": record})
        found = transfers.follow(session, f"Serve {reference}", events, transfers.serve_step)
        session.screen.result(found, lambda: _served(found))

    @command(app, "serving", uses=OPERATOR, panel="Operate", example="hansa serving")
    def serving(session: Session) -> None:
        """List the models this node serves, with their state and load."""
        found = session.operator().get("/v1/serving")
        session.screen.result(found, lambda: _serving_table(found["items"]))

    @command(app, "offers", uses=NODE, panel="Operate", example="hansa offers")
    def offers(session: Session) -> None:
        """List the models that any reachable node offers now, with price and load."""
        found = session.client().get("/v1/offers")
        session.screen.result(found, lambda: _offers_table(found["items"]))


@command(route_group, "explain", uses=OPERATOR, example="hansa route explain any:llm?caps=chat")
def explain(
    session: Session,
    model: Annotated[
        str,
        typer.Argument(help="What a call would name: an id, `owner/slug@^1`, `any:llm?caps=chat`."),
    ],
    prompt: Annotated[
        str, typer.Option(metavar="TEXT", help="The message; its length is part of the choice.")
    ] = "Hello",
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer wanted.")] = 256,
) -> None:
    """Say which node would serve a chat with this model, and why not the others."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
    }
    found = session.operator().post("/v1/route/explain", body)
    session.screen.result(found, lambda: _route(found))


def _route(found: dict[str, Any]) -> RenderableType:
    chosen = sheet(
        {
            "node": found["peer"],
            "record": found["record"],
            "engine": f"{found['engine']} on {found['device']}",
            "quantization": found["quantization"],
            "expected": show.duration(found["score_ms"] / 1000),
            **{f"  {name}": round(value, 1) for name, value in found["terms"].items()},
        },
        title="The call would go to",
    )
    others = [
        (show.short_peer(one["peer"]), show.duration(one["score_ms"] / 1000))
        for one in found["considered"]
        if one["peer"] != found["peer"]
    ]
    refused = [(show.short_peer(one["peer"]), one["reason"]) for one in found["refused"]]
    return stack(
        chosen,
        *([table(("slower", "expected"), others)] if others else []),
        *([table(("not asked", "because"), refused)] if refused else []),
    )


def _served(found: dict[str, Any]) -> RenderableType:
    return sheet(found, title="Serving")


def _serving_table(items: list[dict[str, Any]]) -> RenderableType:
    return table(("model", "state"), [(one["record"], one["state"]) for one in items])


def _offers_table(items: list[dict[str, Any]]) -> RenderableType:
    return table(
        ("model", "node", "price in", "price out"),
        [
            (
                one["served_name"],
                show.short_peer(one["peer"]),
                show.price(one["price_input"]),
                show.price(one["price_output"]),
            )
            for one in items
        ],
    )
