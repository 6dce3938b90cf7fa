"""One OpenAI-compatible endpoint in front of every model that any peer serves."""

from node.gateway.calls import ModelCall, Task, UsageWish, engine_body, parse_call
from node.gateway.consumer import Answer, Consumer
from node.gateway.errors import AllRefused, BadCall, EngineCut, EngineRefused, NoModel, TooManyCalls
from node.gateway.events import StreamMeter, TokenCounts
from node.gateway.models import CatalogueModels
from node.gateway.ports import Admitted, Authorised, Engines, Measured, Models, Offers, Payee, Payer
from node.gateway.provider import Provider
from node.gateway.upstream import EngineUpstream

__all__ = [
    "Admitted", "AllRefused", "Answer", "Authorised", "BadCall", "CatalogueModels", "Consumer",
    "EngineCut",
    "EngineRefused", "EngineUpstream", "Engines", "Measured", "ModelCall", "Models", "NoModel",
    "Offers", "Payee", "Payer", "Provider", "StreamMeter", "Task", "TokenCounts", "TooManyCalls",
    "UsageWish",
    "engine_body", "parse_call",
]  # fmt: skip
