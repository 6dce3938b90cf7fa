"""What the `model` of a call means: the records it names, as the catalogue has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from crdt import RecordId, RecordKind
from node.gateway.errors import NoModel
from node.storage import RecordState
from registry import (
    AIModel,
    AnyModel,
    BadReference,
    ById,
    decode_record,
    in_range,
    parse_reference,
)

CANDIDATE_COUNT_MAX = 200
"""Records looked at for a requirement; routing then needs a live offer among them."""


class Records(Protocol):
    """What resolving needs of the catalogue; `Catalogue` fits."""

    def record(self, record: RecordId) -> RecordState | None:
        """Return a record as it stands."""
        ...

    def find_slug(self, owner: str, slug: str) -> RecordState | None:
        """Return the record `owner/slug`."""
        ...


class Served(Protocol):
    """Who serves what now; `Adverts` fits."""

    def records(self) -> set[RecordId]:
        """Return the records with a live offer."""
        ...


class CatalogueModels:
    """Resolves references against the catalogue, and requirements against what is served now."""

    def __init__(self, records: Records, served: Served) -> None:
        self._records = records
        self._served = served

    def resolve(self, reference: str) -> Sequence[RecordId]:
        """Return the records a reference may mean, best first.

        Raises:
            NoModel: it names nothing known here, or what it names is not a model to call.
            UserFault: it is not a reference, or a prefix fits several owners.
        """
        try:
            wanted = parse_reference(reference)
        except BadReference as error:
            raise NoModel(str(error)) from error
        if isinstance(wanted, AnyModel):
            return self._fitting(wanted, reference)
        if isinstance(wanted, ById):
            state = self._records.record(wanted.record)
        else:
            state = self._records.find_slug(wanted.owner, wanted.slug)
        return [self._callable(state, wanted.range, reference).id]

    def _callable(self, state: RecordState | None, range_: str, reference: str) -> RecordState:
        if state is None:
            raise NoModel(f"no model {reference[:120]!r} is known here; see GET /v1/models")
        if state.deleted:
            raise NoModel(f"the model {reference[:120]!r} was deleted by its owner")
        if state.kind is not RecordKind.MODEL:
            raise NoModel(f"{reference[:120]!r} is an agent; name a model")
        version = decode_record(state.kind, state.body).version
        if range_ != "*" and not in_range(version, range_):
            raise NoModel(f"{reference[:120]!r} stands at {version}, which is not in {range_}")
        return state

    def _fitting(self, wanted: AnyModel, reference: str) -> list[RecordId]:
        found = [record for record in sorted(self._served.records()) if self._fits(record, wanted)][
            :CANDIDATE_COUNT_MAX
        ]
        if not found:
            raise NoModel(f"no model that is served now fits {reference[:200]!r}")
        return found

    def _fits(self, record: RecordId, wanted: AnyModel) -> bool:
        state = self._records.record(record)
        if state is None or state.deleted or state.kind is not RecordKind.MODEL:
            return False
        model = decode_record(state.kind, state.body)
        return isinstance(model, AIModel) and fits(model, wanted)


def fits(model: AIModel, wanted: AnyModel) -> bool:
    """Whether a model's own facts meet a requirement; offers are judged by routing."""
    price = max(model.price.input, model.price.output) if model.price else 0
    quantization = model.quantization if isinstance(model.quantization, str) else None
    return all(
        (
            wanted.model_type is None or model.model_type == wanted.model_type,
            wanted.capabilities <= set(model.capabilities),
            (model.context_length or 0) >= wanted.context_min,
            wanted.price_max is None or price <= wanted.price_max,
            not wanted.quantizations or quantization in wanted.quantizations,
            not wanted.regions or not model.regions or wanted.regions & set(model.regions),
            wanted.segment is None or wanted.segment in model.segments,
            wanted.license is None or model.license == wanted.license,
            model.status != "withdrawn",
        )
    )
