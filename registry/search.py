"""Questions to the catalogue, and the columns that answer them.

A query is a value; storage executes it over the `SearchRow` of every record that stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from crdt import AccountId, OperationId, RecordId, RecordKind
from registry.agents import AIAgent
from registry.errors import BadQuery
from registry.fields import Closed, Regions, Segment, Word, plain
from registry.models import AIModel
from registry.problems import problems_of
from registry.wire import kind_of

LIMIT_MAX = 200
LIMIT_DEFAULT = 50
TEXT_CHARACTERS_MAX = 256
CURSOR_CHARACTERS_MAX = 512
INTEGER_MAX = 2**63 - 1
"""The widest integer of a column; parameters beyond it are shown exactly but compared as this."""
SORTS = ("relevance", "name", "updated", "parameters", "context", "price")

Sort = Literal["relevance", "name", "updated", "parameters", "context", "price"]
Number = Annotated[int, Field(ge=0, le=INTEGER_MAX)]
Status = Literal["active", "deprecated", "withdrawn"]


def _set(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


Some = Annotated[tuple[Word, ...], Field(strict=False, max_length=16), AfterValidator(_set)]


class Query(Closed):
    """What to find: every filter that is given must hold.

    Of several values in one filter any will do, except `capabilities`, which must all be there.
    """

    kinds: Annotated[
        tuple[RecordKind, ...], Field(strict=False, max_length=2, exclude=True)
    ] = (RecordKind.MODEL, RecordKind.AGENT)  # fmt: skip
    text: Annotated[str, Field(max_length=TEXT_CHARACTERS_MAX)] = ""
    """Words in name, description or tags."""
    types: Some = ()
    frameworks: Some = ()
    capabilities: Some = ()
    tags: Some = ()
    licenses: Some = ()
    quantizations: Some = ()
    regions: Regions = ()
    segments: Annotated[
        tuple[Segment, ...], Field(strict=False, max_length=3), AfterValidator(_set)
    ] = ()  # fmt: skip
    statuses: Annotated[
        tuple[Status, ...], Field(strict=False, max_length=3), AfterValidator(_set)
    ] = ("active", "deprecated")  # fmt: skip
    owner: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")] | None = None
    """Account id in hex, or at least its first 8 digits."""
    parameters_min: Number | None = None
    parameters_max: Number | None = None
    context_min: Number | None = None
    context_max: Number | None = None
    price_max: Number | None = None
    """Micro-USD per million tokens, for input and for output; a record without a price is 0."""
    vram_gb_max: Number | None = None
    """The VRAM there is: records that need no more, and those that need no GPU."""
    memory_mb_max: Number | None = None
    requires_gpu: bool | None = None
    updated_since: Number | None = None
    """Unix seconds."""
    sort: Sort = "relevance"
    """Relevance without text is newest first."""
    descending: bool | None = None
    """None: newest, largest and most relevant first; names and prices ascending."""
    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT
    cursor: Annotated[str, Field(max_length=CURSOR_CHARACTERS_MAX)] | None = None
    """Where the last page ended; from its answer, and only with the same query."""

    @property
    def downward(self) -> bool:
        """Whether greater comes first."""
        if self.descending is not None:
            return self.descending
        return self.sort not in {"name", "price"}


@dataclass(frozen=True, slots=True)
class SearchRow:
    """What storage indexes of a record that stands; every integer fits 63 bits.

    Attributes:
        text: Name, tags and description, for full text; `name` and `tags` weigh more.
        price: The greater of input and output price; None for a price by request or minute.
    """

    kind: RecordKind
    name: str
    name_key: str
    tags: tuple[str, ...]
    description: str
    type: str
    framework: str
    capabilities: tuple[str, ...]
    license: str
    quantization: str | None
    regions: tuple[str, ...]
    segments: tuple[str, ...]
    status: str
    parameters: int
    context: int
    price: int | None
    requires_gpu: bool
    min_vram_gb: int
    min_memory_mb: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A record that was found.

    Attributes:
        score: Relevance, greater is better; 0 without text.
    """

    record: RecordId
    kind: RecordKind
    account: AccountId
    slug: str
    operation: OperationId
    value: AIModel | AIAgent
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Facets:
    """How many of all the records found have each value of each property."""

    counts: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of what a query finds.

    Attributes:
        total: How many it finds in all pages.
        cursor: Where the next page starts; None at the end.
    """

    hits: tuple[Hit, ...]
    total: int
    cursor: str | None = None
    facets: Facets | None = None


def projection(record: AIModel | AIAgent) -> SearchRow:
    """Return the columns that storage keeps for a record."""
    needs = record.resource_requirements
    price = record.price
    by_token = price is None or (price.per_request is None and price.per_minute is None)
    model = record if isinstance(record, AIModel) else None
    kind = record.model_type if isinstance(record, AIModel) else record.agent_type
    return SearchRow(
        kind=kind_of(record),
        name=record.name,
        name_key=record.name.casefold(),
        tags=record.tags,
        description=record.description,
        type=plain(kind) or "",
        framework=plain(record.framework) or "",
        capabilities=record.capabilities,
        license=record.license,
        quantization=plain(model.quantization) if model else None,
        regions=record.regions,
        segments=record.segments,
        status=record.status,
        parameters=min(model.parameters, INTEGER_MAX) if model else 0,
        context=(model.context_length or 0) if model else 0,
        price=(max(price.input, price.output) if price else 0) if by_token else None,
        requires_gpu=model.resource_requirements.requires_gpu if model else False,
        min_vram_gb=(model.resource_requirements.min_vram_gb or 0) if model else 0,
        min_memory_mb=needs.min_memory_mb,
        updated_at=record.updated_at,
    )


_NAMES = {
    "q": "text", "text": "text", "type": "types", "framework": "frameworks",
    "capability": "capabilities", "tag": "tags", "license": "licenses", "licence": "licenses",
    "quantization": "quantizations", "region": "regions", "segment": "segments",
    "status": "statuses", "owner": "owner", "parameters_min": "parameters_min",
    "parameters_max": "parameters_max", "context_min": "context_min",
    "context_max": "context_max", "max_price": "price_max", "price_max": "price_max",
    "vram_gb_max": "vram_gb_max", "memory_mb_max": "memory_mb_max",
    "requires_gpu": "requires_gpu", "updated_since": "updated_since", "sort": "sort",
    "descending": "descending", "limit": "limit", "cursor": "cursor",
}  # fmt: skip
_LISTS = frozenset(
    ["types", "frameworks", "capabilities", "tags", "licenses", "quantizations", "regions",
     "segments", "statuses"]
)  # fmt: skip
_INTEGERS = frozenset(
    ["parameters_min", "parameters_max", "context_min", "context_max", "price_max", "vram_gb_max",
     "memory_mb_max", "updated_since", "limit"]
)  # fmt: skip
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
PARAMETERS = tuple(_NAMES)
"""Every name that `from_parameters` takes, as the API documents them."""


def from_parameters(
    parameters: Mapping[str, str | list[str]], *, kinds: tuple[RecordKind, ...]
) -> Query:
    """Return the query that URL parameters state; lists are repeated, or separated by commas.

    Raises:
        BadQuery: a name that is not one, or a value out of its bounds; all of them at once.
    """
    values: dict[str, Any] = {}
    for name, given in parameters.items():
        field = _NAMES.get(name)
        if field is None:
            raise BadQuery(f"parameter {name[:60]!r} is unknown; one of {', '.join(PARAMETERS)}")
        texts = [given] if isinstance(given, str) else list(given)
        if field in _LISTS:
            values[field] = [
                *values.get(field, ()),
                *(word for text in texts for word in text.split(",") if word),
            ]
        elif len(texts) != 1 or field in values:
            raise BadQuery(f"parameter {name} is given more than once")
        else:
            values[field] = _scalar(field, name, texts[0])
    return _query(values, kinds)


def from_json(data: Mapping[str, Any], *, kinds: tuple[RecordKind, ...]) -> Query:
    """Return the query in a search request's body: the fields of `Query`, or URL names for them.

    Raises:
        BadQuery: a field that is not one, or a value out of its bounds; all of them at once.
    """
    values: dict[str, Any] = {}
    for name, value in data.items():
        field = name if name in Query.model_fields and name != "kinds" else _NAMES.get(name)
        if field is None:
            raise BadQuery(f"field {str(name)[:60]!r} is unknown; one of {', '.join(PARAMETERS)}")
        if field in values:
            raise BadQuery(f"{field} is given twice, once as {name}")
        values[field] = [value] if field in _LISTS and isinstance(value, str) else value
    return _query(values, kinds)


def _scalar(field: str, name: str, text: str) -> Any:
    if field in _INTEGERS:
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise BadQuery(f"{name} is {text[:40]!r}, not an integer of 0 or more")
        return int(text)
    if field in {"requires_gpu", "descending"}:
        if text.lower() not in _TRUTH:
            raise BadQuery(f"{name} is {text[:40]!r}; write true or false")
        return _TRUTH[text.lower()]
    return text


def _query(values: Mapping[str, Any], kinds: tuple[RecordKind, ...]) -> Query:
    try:
        return Query.model_validate({**values, "kinds": kinds})
    except ValidationError as error:
        raise BadQuery(
            "; ".join(f"{p.field} = {p.value}: {p.message}" for p in problems_of(error))
        ) from None
