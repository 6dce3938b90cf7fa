"""What an agent's record says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from pydantic import Field

from registry.errors import Problem
from registry.fields import (
    AgentFramework,
    AgentFrameworkName,
    AgentType,
    AgentTypeName,
    ModelTypes,
    References,
    Words,
)
from registry.models import MODEL_TYPES, kind_problems
from registry.resources import AgentResourceRequirements, resource_problems
from registry.shared import Record

AGENT_TYPES = frozenset(get_args(AgentTypeName))
AGENT_FRAMEWORKS = frozenset(get_args(AgentFrameworkName))


class AIAgent(Record):
    """An agent: what it does, which models it wants, what it needs."""

    agent_type: AgentType = "Assistant"
    framework: AgentFramework = "LangChain"
    compatible_model_types: ModelTypes = ("LLM",)
    """A set: kept sorted and unique."""
    preferred_models: References = ()
    """Best first: a model's id, or `owner/slug` with `@` and a range of versions."""
    resource_requirements: AgentResourceRequirements = Field(
        default_factory=AgentResourceRequirements
    )
    tools: Words = ()
    """A set: kept sorted and unique."""

    def problems(self) -> Iterator[Problem]:
        """Yield what contradicts itself between fields that are each in order."""
        yield from super().problems()
        yield from kind_problems("agent_type", self.agent_type, AGENT_TYPES)
        yield from kind_problems("framework", self.framework, AGENT_FRAMEWORKS)
        for at, kind in enumerate(self.compatible_model_types):
            yield from kind_problems(f"compatible_model_types[{at}]", kind, MODEL_TYPES)
        yield from resource_problems(self.resource_requirements)
