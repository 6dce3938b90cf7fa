"""What a record is: models, agents and builds, and what makes one valid."""

from registry.agents import AIAgent
from registry.errors import BadQuery, BadRecord, BadReference, InvalidRecord, Problem
from registry.fields import TEXT_CHARACTERS_MAX, Other, plain
from registry.models import AIModel
from registry.references import (
    AnyModel,
    ById,
    BySlug,
    Reference,
    parse_record_reference,
    parse_reference,
)
from registry.resources import AgentResourceRequirements, ModelResourceRequirements
from registry.search import (
    Facets,
    Hit,
    Page,
    Query,
    SearchRow,
    from_json,
    from_parameters,
    projection,
)
from registry.semver import best_version, in_range, is_range, is_version, version_key
from registry.terms import BaseModelShare, Price, Split
from registry.validation import ID_FIELDS, RegistryRules, readable, validate
from registry.weights import bits_milli_per_weight, weights_bytes
from registry.wire import content_hash, decode_record, encode_record, kind_of

__all__ = [
    "ID_FIELDS", "TEXT_CHARACTERS_MAX", "AIAgent", "AIModel", "AgentResourceRequirements",
    "AnyModel", "BadQuery", "BadRecord", "BadReference", "BaseModelShare", "ById", "BySlug",
    "Facets", "Hit", "InvalidRecord", "ModelResourceRequirements", "Other", "Page", "Price",
    "Problem", "Query", "Reference", "RegistryRules", "SearchRow", "Split", "best_version",
    "bits_milli_per_weight", "content_hash", "decode_record", "encode_record", "from_json",
    "from_parameters", "in_range", "is_range", "is_version", "kind_of",
    "parse_record_reference", "parse_reference", "plain", "projection", "readable",
    "validate", "version_key", "weights_bytes",
]  # fmt: skip
