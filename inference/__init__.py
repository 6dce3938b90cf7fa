"""Running models and choosing who runs them: adverts, routing, the breaker, engines."""

from inference.adverts import (
    ADVERT_BYTES_MAX,
    LIFETIME_S,
    REFRESH_S,
    AdvertBook,
    Endpoint,
    NodeAdvert,
    Offer,
    Offered,
    Task,
    check_advert,
    read_clock,
    sign_advert,
)
from inference.breaker import Breaker, BreakerLimits, CircuitState
from inference.errors import (
    AdvertFault,
    AdvertStale,
    CannotServe,
    EngineFailed,
    EngineInstallFailed,
    EngineMissing,
    EngineUnavailable,
    NoOffer,
)
from inference.routing import (
    Candidate,
    Ranked,
    Refusal,
    Requirement,
    Route,
    Term,
    Workload,
    choose,
    rank,
)

__all__ = [
    "ADVERT_BYTES_MAX", "LIFETIME_S", "REFRESH_S", "AdvertBook", "AdvertFault", "AdvertStale",
    "Breaker", "BreakerLimits", "Candidate", "CannotServe", "CircuitState",
    "Endpoint", "EngineFailed", "EngineInstallFailed", "EngineMissing", "EngineUnavailable",
    "NoOffer", "NodeAdvert", "Offer", "Offered", "Ranked", "Refusal", "Requirement", "Route",
    "Task", "Term", "Workload", "check_advert", "choose", "rank", "read_clock",
    "sign_advert",
]  # fmt: skip
