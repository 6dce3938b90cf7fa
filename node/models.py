"""Turning the `model` of a call into records: what the gateway asks of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

from crdt import HansaError, RecordId, RecordKind
from node.catalogue import Catalogue, semver_of
from node.gateway import NoModel
from registry import AnyModel, ById, BySlug, Query, in_range, parse_reference

CANDIDATE_COUNT_MAX = 50
"""Records tried for a requirement such as `any:llm`; the router prices and ranks their offers."""


class CatalogueModels:
    """Fits the gateway's `Models` port."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def resolve(self, reference: str) -> Sequence[RecordId]:
        """Return the records a reference may mean, best first.

        Raises:
            NoModel: it names nothing known here.
        """
        try:
            parsed = parse_reference(reference)
        except HansaError as error:
            raise NoModel(f"{error}; list models with GET /v1/models") from error
        found = self._fitting(parsed) if isinstance(parsed, AnyModel) else self._named(parsed)
        if not found:
            raise NoModel(
                f"no model {reference[:200]!r} is known here; search with GET /v1/models?q=..."
            )
        return found

    def _named(self, reference: ById | BySlug) -> list[RecordId]:
        if isinstance(reference, ById):
            state = self._catalogue.record(reference.record)
        else:
            state = self._catalogue.find_slug(reference.owner, reference.slug)
        if state is None or state.deleted or state.kind is not RecordKind.MODEL:
            return []
        if reference.range != "*":
            entry = self._catalogue.version(state.id, state.operation.id.hex())
            if entry is None or not in_range(semver_of(entry), reference.range):
                return []
        return [state.id]

    def _fitting(self, wanted: AnyModel) -> list[RecordId]:
        query = Query(
            kinds=(RecordKind.MODEL,),
            types=(wanted.model_type,) if wanted.model_type else (),
            capabilities=tuple(sorted(wanted.capabilities)),
            quantizations=tuple(sorted(wanted.quantizations)),
            regions=tuple(sorted(wanted.regions)),
            segments=(wanted.segment,) if wanted.segment else (),  # type: ignore[arg-type]
            licenses=(wanted.license,) if wanted.license else (),
            context_min=wanted.context_min or None,
            price_max=wanted.price_max,
            limit=CANDIDATE_COUNT_MAX,
        )
        return [hit.record for hit in self._catalogue.search(query).hits]
