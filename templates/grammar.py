"""Formfile 2's grammar as one table: which words each directive takes, and what they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from templates import tree
from templates import values as v
from templates.values import ValueType

FORMAT = "2"


@dataclass(frozen=True, slots=True)
class Slot:
    """One value of a directive.

    Attributes:
        keyword: What it starts with, as `manifest=`; empty for one that goes by its place.
        rest: It takes all words that remain: joined to one text, or each one for a list.
    """

    attribute: str
    type: ValueType
    keyword: str = ""
    required: bool = True
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive: the attribute of the tree it fills, and from which slots.

    Attributes:
        make: The class of its node; None when its one slot is the value itself.
        array: Its value is `["word", ...]`.
    """

    word: str
    attribute: str
    make: Callable[..., Any] | None = None
    slots: tuple[Slot, ...] = ()
    many: bool = False
    array: bool = False
    options: tuple[Slot, ...] = field(init=False)

    def __post_init__(self) -> None:
        keyed = sorted((s for s in self.slots if s.keyword), key=lambda s: -len(s.keyword))
        object.__setattr__(self, "options", tuple(keyed))


def _one(word: str, attribute: str, type_: ValueType, rest: str = "") -> Directive:
    return Directive(word, attribute, None, (Slot(attribute, type_, rest=rest),))


def _option(attribute: str, type_: ValueType, keyword: str = "") -> Slot:
    return Slot(attribute, type_, keyword or f"{attribute}=", required=False)


def _read_pair(name: ValueType, text: str) -> tree.Pair:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text[:60]!r} is not NAME=value")
    return tree.Pair(name.read(key), v.TEXT.read(value))


def _pair(name: ValueType) -> ValueType:
    return ValueType("NAME=value", partial(_read_pair, name), lambda p: f"{p.name}={p.value}")


_NAMED = (Slot("name", v.IDENTIFIER), Slot("description", v.TEXT, required=False))

DIRECTIVES = (
    _one("KIND", "kind", v.choice("model", "agent")),
    _one("NAME", "name", v.TEXT, "join"),
    _one("VERSION", "version", v.VERSION),
    _one("LICENSE", "license", v.LICENSE, "join"),
    _one("DESCRIPTION", "description", v.TEXT, "join"),
    Directive("PARAM", "params", tree.Param, (
        Slot("name", v.IDENTIFIER), Slot("type", v.choice("text", "int", "bool", "size")),
        _option("default", v.TEXT, "="), _option("minimum", v.INTEGER, "min="),
        _option("maximum", v.INTEGER, "max="), _option("enum", v.WORDS),
        _option("pattern", v.PATTERN),
    ), many=True),
    _one("FROM", "base", v.IMAGE),
    Directive("INSTALL", "installs", tree.Install, (
        Slot("installer", v.choice("pip", "apt", "npm")), Slot("packages", v.PACKAGE, rest="each"),
    ), many=True),
    Directive("COPY", "copies", tree.Copy, (
        Slot("source", v.PATH), Slot("destination", v.PATH),
    ), many=True),
    Directive("RUN", "runs", many=True, array=True),
    Directive("WEIGHTS", "weights", tree.Weights, (
        Slot("source", v.TEXT), Slot("destination", v.PATH),
        Slot("manifest", v.DIGEST, "manifest="),
        Slot("format", v.choice("safetensors", "gguf"), "format="),
    ), many=True),
    Directive("ENGINE", "engine", tree.Engine, (
        Slot("name", v.choice("vllm", "text-generation-webui", "llama.cpp", "ollama", "custom")),
        _option("served_name", v.TEXT, "served-name="),
        _option("api", v.choice("openai", "native")),
    )),
    Directive("RESOURCES", "resources", tree.Resources, (
        _option("cpu", v.SPAN_POSITIVE), _option("mem", v.SIZE_SPAN), _option("disk", v.SIZE_SPAN),
        _option("gpu", v.SPAN), _option("vram", v.SIZE_SPAN),
    )),
    Directive("AUTOSIZE", "autosize", tree.Autosize, (
        _option("params", v.COUNT), _option("quant", v.TEXT), _option("ctx", v.POSITIVE),
        _option("seqs", v.POSITIVE), _option("layers", v.POSITIVE), _option("kvheads", v.POSITIVE),
        _option("headdim", v.POSITIVE),
    )),
    Directive("EXPOSE", "exposes", tree.Expose, (
        Slot("port", v.PORT), Slot("scope", v.choice("public", "mesh", "local")),
    ), many=True),
    Directive("HEALTH", "health", tree.Health, (
        Slot("protocol", v.choice("http", "tcp")), Slot("endpoint", v.ENDPOINT),
        _option("interval_ms", v.DURATION, "interval="), _option("start_ms", v.DURATION, "start="),
    )),
    Directive("METRICS", "metrics", tree.Metrics, (
        Slot("protocol", v.choice("http")), Slot("endpoint", v.ENDPOINT),
    )),
    Directive("MODEL", "models", tree.Model, (
        Slot("slot", v.IDENTIFIER, "slot="),
        Slot("need", v.choice("required", "preferred"), "need="),
        _option("type", v.IDENTIFIER), _option("caps", v.WORDS),
        _option("ctx_min", v.PLAIN, "ctx>="),
        _option("ref", v.REFERENCE), _option("fallback", v.TEXT),
    ), many=True),
    Directive("TOOL", "tools", tree.Named, _NAMED, many=True),
    Directive("CAP", "caps", tree.Named, _NAMED, many=True),
    Directive("NET", "net", tree.Net, (Slot("egress", v.EGRESS, "egress="),)),
    Directive("FS", "folders", tree.Folder, (
        Slot("path", v.PATH), Slot("access", v.choice("ro", "rw")),
    ), many=True),
    Directive("SECRET", "secrets", tree.Secret, (
        Slot("name", v.VARIABLE), Slot("required", v.choice("required"), required=False),
    ), many=True),
    Directive("ENV", "env", None, (Slot("env", _pair(v.VARIABLE)),), many=True),
    Directive("VOLUME", "volumes", tree.Volume, (
        Slot("path", v.PATH), _option("size", v.SIZE),
    ), many=True),
    Directive("INVOKE", "invokes", tree.Invoke, (
        Slot("method", v.choice("GET", "POST")), Slot("path", v.ROUTE), _option("request", v.TEXT),
        _option("response", v.TEXT), _option("stream", v.choice("sse", "none")),
    ), many=True),
    Directive("CONNECT", "connects", tree.Connect, (
        Slot("name", v.IDENTIFIER), Slot("source", v.IDENTIFIER, "from="),
        Slot("target", v.IDENTIFIER, "to="), _option("protocol", v.IDENTIFIER),
    ), many=True),
    Directive("RESOURCE", "custom", None, (Slot("custom", _pair(v.CUSTOM)),), many=True),
    _one("WORKDIR", "workdir", v.PATH),
    _one("USER", "user", v.IDENTIFIER),
    Directive("ENTRYPOINT", "entrypoint", array=True),
)  # fmt: skip
"""In the order in which a Formfile is written out."""
BY_WORD = {directive.word: directive for directive in DIRECTIVES}
