"""One function that says whether a record is in order, and everything that is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from crdt import AccountId, Operation, RecordId, RecordKind
from crdt.cards.seeds import Seed
from registry.agents import AIAgent
from registry.errors import InvalidRecord, Problem, shown
from registry.licenses import grammar_fault, identifier_fault
from registry.models import AIModel
from registry.problems import problems_of
from registry.wire import decode_record, encode_record, kind_of

_CLASSES: Mapping[RecordKind, type[AIModel | AIAgent]] = {
    RecordKind.MODEL: AIModel,
    RecordKind.AGENT: AIAgent,
}
ID_FIELDS = {RecordKind.MODEL: "model_id", RecordKind.AGENT: "agent_id"}


def validate(
    kind: RecordKind,
    data: Mapping[str, Any],
    *,
    record: RecordId | None = None,
    owner: AccountId | None = None,
) -> AIModel | AIAgent:
    """Return the record that readable data (parsed JSON) describes.

    `model_id`/`agent_id` and `owner_id` are derived: data may repeat them, and they are left out.

    Args:
        record: The id that the data must repeat if it has one.
        owner: The account that the data must repeat if it names one.

    Raises:
        InvalidRecord: with every bad field at once.
    """
    derived = {ID_FIELDS[kind]: record, "owner_id": owner}
    problems = [p for name, id_ in derived.items() for p in _id_problems(data, name, id_)]
    values = {name: value for name, value in data.items() if name not in derived}
    class_ = _CLASSES[kind]
    try:
        valid = class_.model_validate(values)
    except ValidationError as error:
        problems += problems_of(error)
        problems += _more_problems(class_, values, problems)
        raise InvalidRecord(problems) from None
    problems += _license_problems(valid.license)
    if problems:
        raise InvalidRecord(problems)
    encode_record(valid)
    return valid


class RegistryRules:
    """The replica's judge of bodies: pure, the same on every node."""

    def check_put(self, operation: Operation, body: bytes) -> None:
        """Return if a put with this body is valid for every node.

        Raises:
            MalformedBytes, BadRecord: it is not.
        """
        decode_record(operation.kind, body)

    def seed_of(self, operation: Operation, body: bytes) -> Seed:
        """Return what a valid put would begin a card with: its description and its tags."""
        record = decode_record(operation.kind, body)
        return Seed(record.description, record.tags)


def readable(
    record: AIModel | AIAgent, *, record_id: RecordId | None = None, owner: AccountId | None = None
) -> dict[str, Any]:
    """Return a record as JSON shows it, with the derived ids first where they are given."""
    derived: dict[str, Any] = {}
    if record_id is not None:
        derived[ID_FIELDS[kind_of(record)]] = record_id.hex()
    if owner is not None:
        derived["owner_id"] = owner.hex()
    return derived | record.model_dump(mode="json")


def _more_problems(
    class_: type[AIModel | AIAgent], values: Mapping[str, Any], found: list[Problem]
) -> list[Problem]:
    """Return problems between the fields that are in order, and of the licence's identifiers."""
    bad = {_top(problem) for problem in found}
    kept = {name: value for name, value in values.items() if name not in bad}
    more: list[Problem] = []
    try:
        class_.model_validate({"name": "stand-in", **kept})
    except ValidationError as error:
        more = [p for p in problems_of(error) if p not in found and _top(p) not in bad]
    license_ = kept.get("license")
    if isinstance(license_, str) and grammar_fault(license_) is None:
        more += _license_problems(license_)
    return more


def _top(problem: Problem) -> str:
    return problem.field.partition(".")[0].partition("[")[0]


def _license_problems(text: str) -> list[Problem]:
    fault = identifier_fault(text)
    return [Problem("license", shown(text), fault)] if fault is not None else []


def _id_problems(data: Mapping[str, Any], name: str, id_: bytes | None) -> list[Problem]:
    if name not in data:
        return []
    given = data[name]
    if not isinstance(given, str) or len(given) != 64 or set(given) - set("0123456789abcdef"):
        return [Problem(name, shown(given), "is not 64 lower-case hex digits")]
    if not given.strip("0"):
        return [Problem(name, shown(given), "is all zeroes; an id is derived, never chosen")]
    if id_ is not None and given != id_.hex():
        return [Problem(name, shown(given), f"is derived, never chosen; here it is {id_.hex()}")]
    return []
