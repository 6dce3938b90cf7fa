"""`hansa serve`, `serving`, `offers`, `route`: models this node and others run now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli import format as show
from node.cli import transfers
from node.cli.command import NODE, OPERATOR, command
from node.cli.screen import sheet, stack, styled, table
from node.cli.session import Session

if TYPE_CHECKING:
    from rich.console import RenderableType

STATE_STYLES = {"ready": "green", "serving": "green", "failed": "bold red"}
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
        if stop:
            client.delete(f"/v1/serving/{session.path_of(reference)}")
            session.screen.result({"stopped": reference}, lambda: sheet({"stopped": reference}))
            return
        events = client.events("POST", "/v1/serving", {"record": session.reference(reference)})
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
            **{f"  {name}": _term(name, value) for name, value in found["terms"].items()},
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
        *([table(("not asked", "because"), refused, fold=("because",))] if refused else []),
    )


def _term(name: str, value: float) -> str:
    """Return one term of the choice; all are milliseconds but the cost, which is pico-USD."""
    return show.dollars(round(value)) if name == "cost" else f"{value:.1f} ms"


def _served(found: dict[str, Any]) -> RenderableType:
    offer: dict[str, Any] = found["offer"] or {}
    return sheet(
        {
            "name": found["served_name"],
            "record": found["record"],
            "engine": f"{found['engine']} on {found['device']}",
            "because": found["decision"],
            "state": found["state"],
            "context": f"{show.whole(offer['context'])} tokens" if offer else None,
            "price": f"{_price(offer)} per 1M tokens, in / out" if offer else None,
            "log": found["log"],
        },
        title="The model is served and offered",
    )


def _serving_table(items: list[dict[str, Any]]) -> RenderableType:
    problems = [one for one in items if one["problem"]]
    return stack(
        table(
            ("model", "state", "engine", "calls", "waiting", "price per 1M in / out", "restarts"),
            [
                (
                    one["served_name"] or show.short_id(one["record"]),
                    styled(one["state"], STATE_STYLES.get(one["state"], "yellow")),
                    f"{one['engine']} on {one['device']}" if one["engine"] else None,
                    one["offer"]["running"] if one["offer"] else None,
                    one["offer"]["waiting"] if one["offer"] else None,
                    _price(one["offer"]) if one["offer"] else None,
                    one["restarts"],
                )
                for one in items
            ],
            right=("calls", "waiting", "restarts"),
        ),
        *(
            styled(f"{show.short_id(one['record'])}: {one['problem']}; log: {one['log']}", "red")
            for one in problems
        ),
    )


def _offers_table(items: list[dict[str, Any]]) -> RenderableType:
    return table(
        ("model", "node", "engine", "context", "load", "tokens/s", "price per 1M in / out"),
        [
            (
                one["served_name"],
                "this one" if one["own"] else show.short_peer(one["peer"]),
                f"{one['engine']} on {one['device']}",
                show.whole(one["context"]),
                f"{one['running']}+{one['waiting']} of {one['slots']}",
                f"{one['tokens_per_s']:.0f}" if one["tokens_per_s"] else None,
                _price(one),
            )
            for one in items
        ],
        right=("context", "load", "tokens/s"),
    )


def _price(offer: dict[str, Any]) -> str:
    return f"{show.price(offer['price_input'])} / {show.price(offer['price_output'])}"
