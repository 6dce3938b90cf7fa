"""The list of what is served, on disk: whole or not at all, so that a restart serves it again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import structlog

from crdt import RecordId

logger = structlog.stdlib.get_logger(__name__)

STATE_FILE = "serving.json"
STATE_BYTES_MAX = 64 * 1024


def remember(path: Path, records: Iterable[RecordId]) -> None:
    """Write the records that are served."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("w") as file:
        json.dump({"version": 1, "records": sorted(record.hex() for record in records)}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def recall(path: Path) -> list[RecordId]:
    """Return the records that a file says are served; an unreadable file is nothing, and logged."""
    try:
        if path.stat().st_size > STATE_BYTES_MAX:
            raise ValueError(f"it is over {STATE_BYTES_MAX} bytes")
        value = json.loads(path.read_text())
        records = [RecordId(bytes.fromhex(text)) for text in value["records"]]
        if any(len(record) != 32 for record in records):
            raise ValueError("a record id is 32 bytes")
        return records
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("list of served models not read", path=str(path), reason=str(error))
        return []
