"""What a model's record says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from pydantic import Field

from registry.errors import Problem
from registry.fields import (
    U32,
    U64,
    ModelFramework,
    ModelFrameworkName,
    ModelType,
    ModelTypeName,
    Other,
    Quantization,
    QuantizationName,
    plain,
)
from registry.resources import ModelResourceRequirements, capacity_problems, resource_problems
from registry.shared import Record

MODEL_TYPES = frozenset(get_args(ModelTypeName))
MODEL_FRAMEWORKS = frozenset(get_args(ModelFrameworkName))
QUANTIZATIONS = frozenset(get_args(QuantizationName))


class AIModel(Record):
    """A model: what it is, what it needs, and the terms it is offered under."""

    model_type: ModelType = "LLM"
    framework: ModelFramework = "PyTorch"
    parameters: U64 = 0
    """Count of weights; 0 is not stated."""
    quantization: Quantization | None = None
    context_length: U32 | None = None
    """Tokens."""
    input_tokens_per_second: U32 | None = None
    """Declared by the owner."""
    output_tokens_per_second: U32 | None = None
    resource_requirements: ModelResourceRequirements = Field(
        default_factory=ModelResourceRequirements
    )

    def problems(self) -> Iterator[Problem]:
        """Yield what contradicts itself between fields that are each in order."""
        yield from super().problems()
        for field, value, known in (
            ("model_type", self.model_type, MODEL_TYPES),
            ("framework", self.framework, MODEL_FRAMEWORKS),
            ("quantization", self.quantization, QUANTIZATIONS),
        ):
            if isinstance(value, Other):
                yield from kind_problems(field, value, known)
        yield from resource_problems(self.resource_requirements)
        if self.parameters and self.quantization is not None:
            yield from capacity_problems(
                self.resource_requirements, self.parameters, plain(self.quantization)
            )


def kind_problems(
    field: str, value: str | Other | None, known: frozenset[str]
) -> Iterator[Problem]:
    """Yield that a known kind is written as another one: a kind has one spelling."""
    if isinstance(value, Other) and value.Other in known:
        yield Problem(field, f"Other {value.Other}", f"is known: write {value.Other!r}")
