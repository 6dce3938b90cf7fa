"""The types of record fields: each with its bounds, which the JSON schema states too."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
)

from registry.errors import BadReference
from registry.licenses import LICENSE_CHARACTERS_MAX, grammar_fault
from registry.references import REFERENCE_CHARACTERS_MAX, parse_record_reference
from registry.semver import SEMVER_PATTERN, VERSION_CHARACTERS_MAX

U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1
I64_MIN, I64_MAX = -(2**63), 2**63 - 1
NAME_CHARACTERS_MAX = 128
TEXT_CHARACTERS_MAX = 48 * 1024
"""Under the 64 KiB of a record, with room for its other fields."""
WORD_CHARACTERS_MAX = 64
WORD_COUNT_MAX = 512
LIST_COUNT_MAX = 64
URL_CHARACTERS_MAX = 1024
_NO_EDGE_SPACE = r"^[^\s\x00-\x1f\x7f-\x9f](?:[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$"
_HEX_ID = r"^[0-9a-f]{64}$"
ZERO_ID = "0" * 64
TAG_KNOWN, TAG_OTHER = "known", "other"


class Closed(BaseModel):
    """A frozen model that takes exact types and refuses fields that it does not know."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        protected_namespaces=(),
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


class Other(Closed):
    """A kind that the list does not have: `{"Other": "its name"}`."""

    Other: Annotated[
        str, StringConstraints(min_length=1, max_length=WORD_CHARACTERS_MAX, pattern=_NO_EDGE_SPACE)
    ]


def plain(value: str | Other | None) -> str | None:
    """Return a kind's name, known or other."""
    return value.Other if isinstance(value, Other) else value


def _which(value: Any) -> str:
    return TAG_OTHER if isinstance(value, dict | Other) else TAG_KNOWN


def _ordered(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(sorted(set(values))) if len(values) > 1 else values


def _ordered_kinds(values: tuple[str | Other, ...]) -> tuple[str | Other, ...]:
    return tuple(sorted(set(values), key=_kind_key))


def _kind_key(value: str | Other) -> tuple[bool, str]:
    return (isinstance(value, Other), plain(value) or "")


def _once_each(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        twice = next(v for at, v in enumerate(values) if v in values[:at])
        raise ValueError(f"{twice!r} is listed twice; each may be there once")
    return values


def _not_zero(value: str) -> str:
    if value == ZERO_ID:
        raise ValueError("the all-zero id names nothing; ids are derived, never chosen")
    return value


def _is_license(value: str) -> str:
    fault = grammar_fault(value)
    if fault is not None:
        raise ValueError(fault)
    return value


def _is_reference(value: str) -> str:
    try:
        parse_record_reference(value)
    except BadReference as error:
        raise ValueError(str(error)) from error
    return value


Name = Annotated[
    str, StringConstraints(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=_NO_EDGE_SPACE)
]
Text = Annotated[str, StringConstraints(max_length=TEXT_CHARACTERS_MAX)]
Word = Annotated[
    str, StringConstraints(min_length=1, max_length=WORD_CHARACTERS_MAX, pattern=_NO_EDGE_SPACE)
]
Words = Annotated[
    tuple[Word, ...], Field(strict=False, max_length=WORD_COUNT_MAX), AfterValidator(_ordered)
]
Semver = Annotated[
    str, StringConstraints(max_length=VERSION_CHARACTERS_MAX, pattern=SEMVER_PATTERN)
]
License = Annotated[
    str,
    StringConstraints(min_length=1, max_length=LICENSE_CHARACTERS_MAX),
    AfterValidator(_is_license),
]
HexId = Annotated[str, StringConstraints(pattern=_HEX_ID), AfterValidator(_not_zero)]
RecordReference = Annotated[
    str,
    StringConstraints(min_length=1, max_length=REFERENCE_CHARACTERS_MAX),
    AfterValidator(_is_reference),
]
References = Annotated[
    tuple[RecordReference, ...],
    Field(strict=False, max_length=LIST_COUNT_MAX),
    AfterValidator(_once_each),
]
HexIds = Annotated[
    tuple[HexId, ...], Field(strict=False, max_length=LIST_COUNT_MAX), AfterValidator(_once_each)
]
Region = Annotated[
    str, StringConstraints(max_length=WORD_CHARACTERS_MAX, pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$")
]
Regions = Annotated[
    tuple[Region, ...], Field(strict=False, max_length=LIST_COUNT_MAX), AfterValidator(_ordered)
]
Segment = Literal["general", "medical", "scientific"]
Segments = Annotated[
    tuple[Segment, ...], Field(strict=False, max_length=16), AfterValidator(_ordered)
]
Url = Annotated[
    str,
    StringConstraints(
        max_length=URL_CHARACTERS_MAX,
        pattern=r"""^https?://[^\s<>"'\x00-\x20/]+[^\s<>"'\x00-\x20]*$""",
    ),
]
U32 = Annotated[int, Field(ge=0, le=U32_MAX)]
U64 = Annotated[int, Field(ge=0, le=U64_MAX)]
I64 = Annotated[int, Field(ge=I64_MIN, le=I64_MAX)]

ModelTypeName = Literal["LLM", "Embedding", "Multimodal", "AudioProcessing", "ImageGeneration"]
ModelFrameworkName = Literal["PyTorch", "TensorFlow", "ONNX", "JAX", "CoreML"]
QuantizationName = Literal["FP32", "FP16", "BF16", "INT8", "INT4", "GPTQ", "GGUF", "AWQ"]
AgentTypeName = Literal[
    "Chatbot", "Assistant", "DataAnalyst", "CodeGenerator", "ContentCreator", "Researcher"
]
AgentFrameworkName = Literal[
    "LangChain", "AutoGPT", "CrewAI", "LlamaIndex", "BabyAGI",
    "CustomRust", "CustomPython", "CustomJS",
]  # fmt: skip
_Other = Annotated[Other, Tag(TAG_OTHER)]
ModelType = Annotated[Annotated[ModelTypeName, Tag(TAG_KNOWN)] | _Other, Discriminator(_which)]
ModelFramework = Annotated[
    Annotated[ModelFrameworkName, Tag(TAG_KNOWN)] | _Other, Discriminator(_which)
]
Quantization = Annotated[
    Annotated[QuantizationName, Tag(TAG_KNOWN)] | _Other, Discriminator(_which)
]
AgentType = Annotated[Annotated[AgentTypeName, Tag(TAG_KNOWN)] | _Other, Discriminator(_which)]
AgentFramework = Annotated[
    Annotated[AgentFrameworkName, Tag(TAG_KNOWN)] | _Other, Discriminator(_which)
]
ModelTypes = Annotated[
    tuple[ModelType, ...],
    Field(strict=False, max_length=LIST_COUNT_MAX),
    AfterValidator(_ordered_kinds),
]
