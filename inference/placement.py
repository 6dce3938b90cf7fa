"""Where a model runs on one machine, and with how much: processor or GPU, context, sequences.

Pure: facts in, a placement with its reasons out, or `DoesNotFit` with the term that is too large.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from inference.errors import CannotServe, DoesNotFit

GIB = 2**30
MIB = 2**20
RUNTIME_BYTES = 1_200 * MIB
"""vLLM 0.32.0 on a CPU, both processes, without weights and cache (measured: 1.0 to 1.2 GB)."""
GPU_RUNTIME_BYTES = 2 * GIB
GPU_USABLE_PERCENT = 90
"""vLLM's gpu-memory-utilization."""
KEEP_FREE_BYTES = 256 * MIB
"""Of RAM, for the node itself."""
SLOTS_CPU, SLOTS_GPU = 16, 64
CONTEXT_UNKNOWN = 2048
KV_TYPE_BYTES = 2
"""bfloat16 keys and values."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; memory in bytes."""

    index: int
    name: str
    memory_bytes: int
    memory_free_bytes: int


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine now.

    Attributes:
        vcpus: Processors this process may use (affinity and cgroup quota considered).
        memory_bytes, memory_free_bytes: RAM, and what of it is available (cgroup considered).
        disk_free_bytes: Free where builds are kept.
    """

    vcpus: int
    memory_bytes: int
    memory_free_bytes: int
    disk_free_bytes: int
    gpus: tuple[Gpu, ...] = ()


class Needs(Protocol):
    """A record's resource requirements, as `registry.ModelResourceRequirements` has them."""

    @property
    def min_vcpus(self) -> int:
        """Processors."""
        ...

    @property
    def min_memory_mb(self) -> int:
        """RAM in MiB."""
        ...

    @property
    def requires_gpu(self) -> bool:
        """Whether a CPU will not do."""
        ...

    @property
    def min_vram_gb(self) -> int | None:
        """GPU memory in GiB."""
        ...


DeviceChoice = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Device:
    """What a model runs on: the CPU, or one GPU."""

    gpu: Gpu | None
    reason: str

    @property
    def name(self) -> str:
        """`cpu`, or the GPU's name."""
        return self.gpu.name if self.gpu else "cpu"


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a build's `config.json` says of a model, as sizing needs it."""

    layers: int
    kv_heads: int
    head_dim: int
    context_max: int

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values of one token: 2 x layers x KV heads x head dimension x 2."""
        return 2 * self.layers * self.kv_heads * self.head_dim * KV_TYPE_BYTES


@dataclass(frozen=True, slots=True)
class Sizing:
    """How much of a device one engine gets."""

    context: int
    slots: int
    kv_bytes: int
    total_bytes: int
    reason: str


def choose_device(needs: Needs, machine: Machine, choice: DeviceChoice = "auto") -> Device:
    """Return what a model runs on, before its files are known.

    Raises:
        DoesNotFit: the machine lacks what the record requires, or the setting forbids it.
    """
    if machine.vcpus < needs.min_vcpus:
        raise DoesNotFit(
            f"the model needs {needs.min_vcpus} processors and this machine has {machine.vcpus}"
        )
    if machine.memory_bytes < needs.min_memory_mb * MIB:
        raise DoesNotFit(
            f"the model needs {needs.min_memory_mb} MiB of memory and this machine has "
            f"{machine.memory_bytes // MIB}"
        )
    least_bytes = (needs.min_vram_gb or 0) * GIB
    gpu = max(machine.gpus, key=lambda one: one.memory_free_bytes, default=None)
    fits = gpu is not None and gpu.memory_bytes >= least_bytes
    if needs.requires_gpu or choice == "cuda":
        who = "the record requires" if needs.requires_gpu else "engines.device asks for"
        if choice == "cpu":
            raise DoesNotFit("the record requires a GPU and engines.device is cpu")
        if gpu is None:
            raise DoesNotFit(f"{who} a GPU and this machine has none that nvidia-smi shows")
        if not fits:
            raise DoesNotFit(
                f"{who} {least_bytes // GIB} GiB of GPU memory and {gpu.name} has "
                f"{gpu.memory_bytes // GIB}"
            )
        return Device(gpu, f"{who} a GPU: {gpu.name}")
    if gpu is not None and fits and choice == "auto":
        return Device(gpu, f"{gpu.name} is here and has room")
    why = "engines.device is cpu" if choice == "cpu" else "the record asks for no GPU, none is here"
    return Device(None, f"{why}: the CPU will do ({machine.vcpus} processors)")


def read_shape(config: Mapping[str, Any]) -> ModelShape:
    """Return the shape in a `config.json` (the text part of a multimodal one).

    Raises:
        CannotServe: a number that sizing needs is missing or no positive integer.
    """
    inner = config.get("text_config")
    facts: Mapping[str, Any] = inner if isinstance(inner, Mapping) else config  # pyright: ignore[reportUnknownVariableType]
    heads = _count(facts, "num_attention_heads")
    hidden = _count(facts, "hidden_size")
    given_dim, given_kv = facts.get("head_dim"), facts.get("num_key_value_heads")
    return ModelShape(
        layers=_count(facts, "num_hidden_layers"),
        kv_heads=heads if given_kv is None else _count(facts, "num_key_value_heads"),
        head_dim=max(1, hidden // heads) if given_dim is None else _count(facts, "head_dim"),
        context_max=_count(facts, "max_position_embeddings")
        if facts.get("max_position_embeddings") is not None
        else CONTEXT_UNKNOWN,
    )


def size_engine(
    shape: ModelShape, weights_bytes: int, device: Device, machine: Machine, context: int | None
) -> Sizing:
    """Return how long a context and how many sequences at once the device has room for.

    The context is the record's (the model's own maximum when that is shorter or not stated);
    sequences are given up first, since a shorter context would break what the record promises.

    Raises:
        DoesNotFit: not even one sequence fits.
    """
    length = min(context or shape.context_max, shape.context_max)
    if device.gpu is None:
        room = machine.memory_free_bytes - KEEP_FREE_BYTES
        runtime, most = RUNTIME_BYTES, SLOTS_CPU
    else:
        room = device.gpu.memory_free_bytes * GPU_USABLE_PERCENT // 100
        runtime, most = GPU_RUNTIME_BYTES, SLOTS_GPU
    sequence_bytes = shape.kv_bytes_per_token * length
    left = room - weights_bytes - runtime
    slots = min(most, left // sequence_bytes) if left > 0 else 0
    if slots < 1:
        need = weights_bytes + runtime + sequence_bytes
        terms = {"weights": weights_bytes, "one sequence's cache": sequence_bytes}
        worst = max(terms, key=lambda name: terms[name])
        change = "a stronger quantization" if worst == "weights" else "a shorter context"
        raise DoesNotFit(
            f"the model needs {_gib(need)} on {device.name} and {_gib(room)} is free; the largest "
            f"part is {worst} ({_gib(terms[worst])}): free memory, or publish it with {change}"
        )
    kv_bytes = max(slots * sequence_bytes, 16 * MIB)
    total = weights_bytes + runtime + kv_bytes
    reason = (
        f"{_gib(total)} of {_gib(room)}: weights {_gib(weights_bytes)}, cache {_gib(kv_bytes)} for "
        f"{slots} sequences of {length} tokens, runtime {_gib(runtime)}"
    )
    return Sizing(length, slots, kv_bytes, total, reason)


def _count(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name)
    if type(value) is not int or not 0 < value < 2**31:
        raise CannotServe(
            f"config.json of the build has {name} {str(value)[:40]!r}; a positive integer is needed"
        )
    return value


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
