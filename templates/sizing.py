"""How much memory and disk a model needs: computed from its facts, never looked up by name.

The same functions serve validation, `fits this machine`, engine arguments and the pages that show
them. Integers only, rounded up, so every machine computes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from registry import weights_bytes
from templates.errors import DoesNotFit
from templates.machine import Machine

GIB = 2**30
GPU_USABLE_PERCENT = 90
"""vLLM's default `gpu-memory-utilization`."""
GPU_RUNTIME_BYTES = 2 * 10**9
"""Activations, CUDA context and graphs (templates.md, worked check)."""
CPU_RUNTIME_BYTES = 1_170_000_000
"""vLLM 0.32 on CPU with a tiny model: 1.24 GB resident, of which 64 MiB are KV cache."""
CPU_PACKAGES_BYTES = 2_100_000_000
GPU_PACKAGES_BYTES = 12 * 10**9
"""An engine environment on disk: 2.1 GB measured on CPU; CUDA wheels are several times that."""
KV_BLOCK_TOKENS = 128
"""vLLM's CPU block; KV space is given out in whole blocks."""
STRONGER = ("INT8", "AWQ")


@dataclass(frozen=True, slots=True)
class Facts:
    """What sizing needs to know of a model and how it is to be run.

    Attributes:
        quantization: As in records.md, or a GGUF variant.
        kv_bytes: Bytes of one number in the KV cache.
        weights_exact: Bytes of the weights in the build, where they are known.
    """

    parameters: int
    quantization: str
    context: int
    sequences: int
    layers: int
    kv_heads: int
    head_dim: int
    attention_heads: int = 0
    kv_bytes: int = 2
    weights_exact: int | None = None

    @property
    def weights(self) -> int:
        """Bytes of the weights.

        Raises:
            DoesNotFit: the quantization is not known and the build says nothing.
        """
        if self.weights_exact is not None:
            return self.weights_exact
        size = weights_bytes(self.parameters, self.quantization)
        if size is None:
            raise DoesNotFit(
                f"quantization {self.quantization!r} is not known here, so its weights cannot be "
                "sized; state one of FP32 FP16 BF16 INT8 INT4 GPTQ AWQ or a GGUF variant"
            )
        return size

    @property
    def kv_per_token(self) -> int:
        """KV bytes of one token: keys and values of every layer."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.kv_bytes


@dataclass(frozen=True, slots=True)
class Need:
    """What a model needs, in bytes, and the terms it is made of."""

    weights: int
    kv: int
    gpu_runtime: int
    cpu_runtime: int
    vram: int
    memory: int
    disk: int

    def terms(self, *, gpu: bool) -> dict[str, int]:
        """Return the terms of VRAM or of memory by name."""
        runtime = self.gpu_runtime if gpu else self.cpu_runtime
        return {"weights": self.weights, "KV cache": self.kv, "runtime": runtime}


@dataclass(frozen=True, slots=True)
class Profile:
    """A machine for one way of using a model."""

    workload: str
    sequences: int
    context: int
    smallest: Need
    recommended: Need


def size(facts: Facts) -> Need:
    """Return what a model needs on a GPU (`vram`) and on a CPU (`memory`)."""
    weights = facts.weights
    kv = facts.kv_per_token * _whole_blocks(facts.context) * facts.sequences
    return Need(
        weights=weights,
        kv=kv,
        gpu_runtime=GPU_RUNTIME_BYTES,
        cpu_runtime=CPU_RUNTIME_BYTES,
        vram=-(-(weights + kv + GPU_RUNTIME_BYTES) * 100 // GPU_USABLE_PERCENT),
        memory=weights + kv + CPU_RUNTIME_BYTES,
        disk=-(-weights * 12 // 10) + CPU_PACKAGES_BYTES,
    )


def check_vram(facts: Facts, vram_bytes: int, *, gpu_count: int = 1) -> Need:
    """Return the need of a model that fits GPUs of `vram_bytes` each.

    Raises:
        DoesNotFit: says the need, what is there, the largest term and the nearest changes that fit.
    """
    assert gpu_count >= 1
    if gpu_count > 1 and facts.attention_heads % gpu_count:
        raise DoesNotFit(
            f"{gpu_count} GPUs do not divide {facts.attention_heads} attention heads; use a number "
            "of GPUs that does"
        )
    return _checked(facts, vram_bytes * gpu_count, gpu=True, given=f"on {gpu_count} GPU(s)")


def check_memory(facts: Facts, memory_bytes: int) -> Need:
    """Return the need of a model that fits memory, run on the CPU.

    Raises:
        DoesNotFit: as `check_vram`.
    """
    return _checked(facts, memory_bytes, gpu=False, given="of memory")


def sequences_that_fit(facts: Facts, machine: Machine, *, gpu: bool) -> int:
    """Return the most concurrent sequences, up to those of `facts`, that fit; 0 when none does."""
    available = machine.vram_bytes if gpu else machine.memory_bytes
    return _greatest(
        1, facts.sequences, lambda n: _fits(replace(facts, sequences=n), available, gpu)
    )


def facts_from_config(
    config: Mapping[str, Any],
    *,
    parameters: int,
    quantization: str,
    context: int,
    sequences: int,
    weights_exact: int | None = None,
) -> Facts:
    """Return the facts in a model's `config.json` (Hugging Face's names).

    Raises:
        DoesNotFit: a fact is missing, or the record's context is longer than the model's.
    """
    layers = _whole(config, "num_hidden_layers")
    heads = _whole(config, "num_attention_heads")
    kv_heads = _whole(config, "num_key_value_heads", heads)
    head_dim = _whole(config, "head_dim", _whole(config, "hidden_size", 0) // max(heads, 1))
    context_max = _whole(config, "max_position_embeddings", context)
    if context > context_max:
        raise DoesNotFit(
            f"a context of {context} tokens contradicts config.json, whose "
            f"max_position_embeddings is {context_max}; lower context_length"
        )
    return Facts(
        parameters, quantization, context, sequences, layers, kv_heads, head_dim,
        attention_heads=heads, weights_exact=weights_exact,
    )  # fmt: skip


def profiles(facts: Facts) -> tuple[Profile, ...]:
    """Return machines for interactive, batch and long-context use of one model."""
    made: list[Profile] = []
    for workload, sequences, context in (
        ("interactive", 4, min(facts.context, 8192)),
        ("batch", 32, min(facts.context, 4096)),
        ("long context", 1, facts.context),
    ):
        some = replace(facts, sequences=sequences, context=context)
        twice = replace(some, sequences=2 * sequences)
        made.append(Profile(workload, sequences, context, size(some), size(twice)))
    return tuple(made)


def _checked(facts: Facts, available: int, *, gpu: bool, given: str) -> Need:
    need = size(facts)
    total = need.vram if gpu else need.memory
    if total <= available:
        return need
    terms = need.terms(gpu=gpu)
    largest = max(terms, key=lambda name: terms[name])
    listed = " + ".join(f"{name} {_gib(value)}" for name, value in terms.items())
    usable = f" / {GPU_USABLE_PERCENT} %" if gpu else ""
    changes = "; ".join(_changes(facts, available, gpu)) or "no smaller setting fits"
    raise DoesNotFit(
        f"needs {_gib(total)} ({listed}{usable}), but there are {_gib(available)} {given}; "
        f"the largest term is {largest}; what fits: {changes}"
    )


def _changes(facts: Facts, available: int, gpu: bool) -> Iterator[str]:
    """Yield the nearest single changes with which the model fits."""
    fewer = _greatest(
        1, facts.sequences, lambda n: _fits(replace(facts, sequences=n), available, gpu)
    )
    if fewer:
        yield f"{fewer} concurrent sequences"
    blocks = _greatest(
        1,
        _whole_blocks(facts.context) // KV_BLOCK_TOKENS,
        lambda n: _fits(replace(facts, context=n * KV_BLOCK_TOKENS), available, gpu),
    )
    if blocks:
        yield f"a context of {blocks * KV_BLOCK_TOKENS} tokens"
    for name in STRONGER:
        other = replace(facts, quantization=name, weights_exact=None)
        if facts.parameters and other.weights < facts.weights and _fits(other, available, gpu):
            yield f"quantization {name}"
            break
    if gpu:
        counts = [n for n in (2, 4, 8) if facts.attention_heads and facts.attention_heads % n == 0]
        enough = next((n for n in counts if _fits(facts, available * n, gpu)), None)
        if enough is not None:
            yield f"{enough} times the GPUs"


def _fits(facts: Facts, available: int, gpu: bool) -> bool:
    need = size(facts)
    return (need.vram if gpu else need.memory) <= available


def _greatest(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the greatest number in low..high for which `holds`, or 0; larger ones lose it."""
    if high < low or not holds(low):
        return 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _whole_blocks(tokens: int) -> int:
    return -(-tokens // KV_BLOCK_TOKENS) * KV_BLOCK_TOKENS


def _gib(value: int) -> str:
    """Return GiB rounded up to two digits, in integers."""
    hundredths = -(-value * 100 // GIB)
    return f"{hundredths // 100}.{hundredths % 100:02} GiB"


def _whole(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    if value is None:
        value = default
    if type(value) is not int or not 0 <= value < 2**40:
        raise DoesNotFit(f"config.json says {name} = {str(value)[:40]!r}, which is no size")
    return value
