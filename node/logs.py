"""Logs: structured lines, a request id on every line about a request, and no secrets.

Libraries that use `logging` go through the same pipe. A line's values are scanned for what our
secrets look like, so that a key in an exception's text is not written out either.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

SECRET_WORDS = ("passphrase", "password", "secret", "authorization", "token", "seed", "api_key")
SECRET_SHAPES = re.compile(r"hsk_[A-Za-z0-9_-]{16,}|(?:Bearer|Hansa) [A-Za-z0-9_.=-]{20,}")
HIDDEN = "(hidden)"


def set_up_logs(
    *,
    level: Literal["debug", "info", "warning", "error"],
    style: Literal["auto", "console", "json"],
    stream: TextIO = sys.stderr,
) -> None:
    """Send every log line of this process to `stream`."""
    as_json = style == "json" or (style == "auto" and not stream.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([structlog.processors.format_exc_info] if as_json else []),
            hide_secrets,
            renderer,
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # What these say at info is about their insides, not about this node.
    for name in ("asyncio", "aiohttp", "libp2p", "urllib3", "multiaddr"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def hide_secrets(
    _logger: Any, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace what is, or looks like, a secret in a log line's values (a structlog processor)."""
    for name, value in line.items():
        if any(word in name.lower() for word in SECRET_WORDS):
            line[name] = HIDDEN
        elif isinstance(value, str):
            line[name] = SECRET_SHAPES.sub(HIDDEN, value)
        elif isinstance(value, bytes | BaseException):
            line[name] = SECRET_SHAPES.sub(HIDDEN, repr(value))
    return line
