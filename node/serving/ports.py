"""What serving says and needs: its values, and the small protocols of what it works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from crdt import ManifestDigest, OperationId, RecordId
from inference import CannotServe, Offer
from inference.engines import EngineEnvironment

if TYPE_CHECKING:
    from node.builds import FetchProgress
    from node.storage import RecordState
    from registry import AIModel


@dataclass(frozen=True, slots=True)
class ServeProgress:
    """One step on the way to an offer.

    Attributes:
        step: `resolving`, `planning`, `fetching`, `installing`, `starting`, `proving`, `ready`,
            `failed` or `stopped`.
        done, total: Bytes when fetching, megabytes when installing; 0 is unknown.
    """

    record: RecordId
    step: str
    text: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """How this machine will run one model, and why so.

    Attributes:
        environment: The engine's environment, installed or not.
        argv: Arguments of the engine's command; `{port}` is the port that is chosen for it.
        reasons: Sentences for the operator: device, sizes, limits.
    """

    engine: str
    environment: EngineEnvironment
    device: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    context: int
    slots: int
    reasons: tuple[str, ...] = ()


class Planner(Protocol):
    """Decides how a model runs here; `node.planning` fits."""

    def check(self, model: AIModel) -> tuple[str, ...]:
        """Return why the model fits this machine, before anything is fetched.

        Raises:
            UserFault: it does not; the message names the term that is too large.
        """
        ...

    def prepare(self, model: AIModel, tree: Path, served_name: str) -> Prepared:
        """Return how to run the model whose files are in `tree`.

        Raises:
            UserFault: it does not fit, or its template cannot be rendered.
        """
        ...


class Records(Protocol):
    """What serving reads of the catalogue."""

    def record(self, record: RecordId) -> RecordState | None:
        """Return a record as it stands."""
        ...


class BuildSource(Protocol):
    """What serving needs of builds; `Builds` fits."""

    def has(self, digest: ManifestDigest) -> bool:
        """Whether a build is complete here."""
        ...

    async def fetch(
        self, digest: ManifestDigest, progress: Callable[[FetchProgress], None] = ...
    ) -> Path:
        """Return the folder of a build's files, fetched if need be."""
        ...


@dataclass(frozen=True, slots=True)
class ServingTerms:
    """What the operator adds to offers; None takes what the record asks."""

    price_input: int | None = None
    price_output: int | None = None
    region: str = ""
    model_count_max: int = 4
    install: bool = True


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model this node serves, is bringing up, or could not bring up."""

    record: RecordId
    state: str
    problem: str = ""
    served_name: str = ""
    version: OperationId | None = None
    manifest: ManifestDigest | None = None
    engine: str = ""
    device: str = ""
    url: str = ""
    reasons: tuple[str, ...] = ()
    since_s: float = 0.0
    restarts: int = 0
    pid: int | None = None
    log: str = ""
    offer: Offer | None = None


def prices(model: AIModel, terms: ServingTerms) -> tuple[int, int, int]:
    """Return what input, output and cached input cost here, in micro-USD per million tokens.

    Raises:
        CannotServe: the record's price is not by tokens, and the operator set none that is.
    """
    price = model.price
    asked_input = asked_output = asked_cached = 0
    if price is not None:
        by_token = price.per_request is None and price.per_minute is None
        if not by_token and (terms.price_input is None or terms.price_output is None):
            raise CannotServe(
                f"{model.name} asks for a price per request or minute, and offers are by tokens; "
                "set serving.price_input_micros and serving.price_output_micros"
            )
        asked_input, asked_output, asked_cached = price.input, price.output, price.cached
    price_input = asked_input if terms.price_input is None else terms.price_input
    price_output = asked_output if terms.price_output is None else terms.price_output
    return price_input, price_output, min(asked_cached, price_input)
