"""What can go wrong when models are run or chosen."""

from __future__ import annotations

from crdt import RemoteFault, UserFault, WorldFault


class AdvertFault(RemoteFault):
    """A peer's advert breaks a rule of its own shape."""

    code = "advert-fault"


class AdvertStale(RemoteFault):
    """An advert expired, from the future, of a later version, or older than one held: ignore it."""

    code = "advert-stale"


class NoOffer(WorldFault):
    """Nobody offers what a call requires right now; the message counts the reasons."""

    code = "no-offer"


class EngineUnavailable(WorldFault):
    """An engine does not answer, or is not running."""

    code = "engine-unavailable"


class EngineFailed(WorldFault):
    """An engine could not be started, died, or failed its first real request."""

    code = "engine-failed"


class EngineInstallFailed(WorldFault):
    """The engine's environment could not be made."""

    code = "engine-install-failed"


class EngineMissing(WorldFault):
    """The engine's environment is not installed on this machine."""

    code = "engine-missing"


class CannotServe(UserFault):
    """A record cannot be served: it has no build, is deleted, or its kind is not a model."""

    code = "cannot-serve"
