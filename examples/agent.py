"""An agent that knows one Hansa node and nothing else: find a model that can chat, and chat.

Uses the official `openai` client against the node's OpenAI-compatible endpoint.

Example: OPENAI_BASE_URL=http://127.0.0.1:8420/v1 OPENAI_API_KEY=hsk_... python -m examples.agent
"""

from __future__ import annotations

import json
import sys
from typing import Any

from openai import OpenAI


def main(question: str, *, tokens_max: int = 24) -> int:
    """Print the answer as it streams; then one JSON line with what served it and what it used."""
    client = OpenAI(max_retries=0, timeout=60)
    model = first_chat_model(client)
    if model is None:
        sys.stderr.write("agent: no model that can chat is offered by a live peer right now\n")
        return 1
    stream = client.chat.completions.with_raw_response.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=tokens_max,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, events, usage = "", 0, None
    for event in stream.parse():
        events += 1
        usage = event.usage or usage
        for choice in event.choices:
            text += choice.delta.content or ""
            sys.stdout.write(choice.delta.content or "")
            sys.stdout.flush()
    report: dict[str, Any] = {
        "model": model,
        "text": text,
        "events": events,
        "usage": usage.model_dump() if usage else None,
        "route": json.loads(stream.headers.get("hansa-route", "null")),
    }
    sys.stdout.write("\n" + json.dumps(report) + "\n")
    return 0


def first_chat_model(client: OpenAI) -> str | None:
    """Return the id of the first model whose offers say that it can chat."""
    for model in client.models.list():
        tasks = (model.model_extra or {}).get("tasks") or []
        if "chat" in tasks:
            return model.id
    return None


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]) or "Which peer holds the chunk?"))
