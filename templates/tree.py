"""The typed tree of a Formfile: one frozen class a directive, and the file they make."""

from __future__ import annotations

from dataclasses import dataclass

from templates.values import Ref, Span

Number = int | Ref


@dataclass(frozen=True, slots=True)
class Param:
    """What a deployer may set; `default` None means that it must be set."""

    name: str
    type: str
    default: str | None = None
    minimum: int | None = None
    maximum: int | None = None
    enum: tuple[str, ...] | None = None
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Install:
    """Packages of one installer, each with its exact version."""

    installer: str
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """A file or folder of the package, and where it goes."""

    source: str
    destination: str


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights, by the digest of their manifest."""

    source: str
    destination: str
    manifest: str
    format: str


@dataclass(frozen=True, slots=True)
class Engine:
    """What serves the model."""

    name: str
    served_name: str | None = None
    api: str = "openai"


@dataclass(frozen=True, slots=True)
class Resources:
    """Minimum to recommended; sizes in bytes."""

    cpu: Span | None = None
    mem: Span | None = None
    disk: Span | None = None
    gpu: Span | None = None
    vram: Span | None = None


@dataclass(frozen=True, slots=True)
class Autosize:
    """Facts that the sizing rules need."""

    params: Number | None = None
    quant: str | None = None
    ctx: Number | None = None
    seqs: Number | None = None
    layers: Number | None = None
    kvheads: Number | None = None
    headdim: Number | None = None


@dataclass(frozen=True, slots=True)
class Expose:
    """A port and who may reach it."""

    port: str
    scope: str


@dataclass(frozen=True, slots=True)
class Health:
    """Where a healthy process answers 200; times in milliseconds."""

    protocol: str
    endpoint: str
    interval_ms: int = 10_000
    start_ms: int = 600_000


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where the process shows its metrics."""

    protocol: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class Model:
    """A connection from an agent to a model."""

    slot: str
    need: str
    type: str = "LLM"
    caps: tuple[str, ...] | None = None
    ctx_min: int | None = None
    ref: str | None = None
    fallback: str | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """A tool or a capability, and what it is for."""

    name: str
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Net:
    """Which hosts the process may reach; none when empty."""

    egress: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Folder:
    """A path and what the process may do there."""

    path: str
    access: str


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret, by name only."""

    name: str
    required: str | None = None


@dataclass(frozen=True, slots=True)
class Volume:
    """A folder that outlives the process."""

    path: str
    size: Number | None = None


@dataclass(frozen=True, slots=True)
class Invoke:
    """How an agent is called."""

    method: str
    path: str
    request: str | None = None
    response: str | None = None
    stream: str | None = None


@dataclass(frozen=True, slots=True)
class Connect:
    """A connection between components of one package."""

    name: str
    source: str
    target: str
    protocol: str = "http"


@dataclass(frozen=True, slots=True)
class Pair:
    """A name and its value: an environment variable or a custom resource."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Formfile:
    """A whole template. Lists keep the order of the file: order can matter to what they build."""

    kind: str
    name: str
    version: str = "0.1.0"
    license: str = "MIT"
    description: str = ""
    params: tuple[Param, ...] = ()
    base: str | None = None
    installs: tuple[Install, ...] = ()
    copies: tuple[Copy, ...] = ()
    runs: tuple[tuple[str, ...], ...] = ()
    weights: tuple[Weights, ...] = ()
    engine: Engine | None = None
    resources: Resources | None = None
    autosize: Autosize | None = None
    exposes: tuple[Expose, ...] = ()
    health: Health | None = None
    metrics: Metrics | None = None
    models: tuple[Model, ...] = ()
    tools: tuple[Named, ...] = ()
    caps: tuple[Named, ...] = ()
    net: Net | None = None
    folders: tuple[Folder, ...] = ()
    secrets: tuple[Secret, ...] = ()
    env: tuple[Pair, ...] = ()
    volumes: tuple[Volume, ...] = ()
    invokes: tuple[Invoke, ...] = ()
    connects: tuple[Connect, ...] = ()
    custom: tuple[Pair, ...] = ()
    workdir: str | None = None
    user: str | None = None
    entrypoint: tuple[str, ...] = ()
