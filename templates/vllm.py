"""The built-in vLLM template, for CPU and GPU, and what makes a command line of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from templates.errors import DoesNotFit, UnknownTemplate
from templates.machine import Machine
from templates.parameters import bind, parameter_values
from templates.parser import parse_formfile
from templates.sizing import Facts, Need, check_memory, check_vram, size
from templates.tree import Formfile
from templates.writer import template_digest

VLLM_FORMFILE = """\
# vLLM, on a CPU or on GPUs: which arguments it gets follows from the machine.
# Tested on CPU by starting it; on GPU it is rendered and validated only.
FORMAT 2
KIND model
NAME vLLM
VERSION 0.1.0
LICENSE Apache-2.0
DESCRIPTION "Serves a language or embedding model in the OpenAI dialect."
PARAM model_path text min=1
PARAM served_name text min=1 max=128
PARAM max_model_len int =2048 min=16 max=10000000
PARAM max_num_seqs int =16 min=1 max=4096
PARAM max_queued int =64 min=1 max=100000
PARAM task text =generate enum=generate,embed
PARAM tool_parser text ="" pattern=[a-z0-9_]{0,64}
ENGINE vllm served-name=${served_name} api=openai
AUTOSIZE ctx=${max_model_len} seqs=${max_num_seqs}
EXPOSE 8000/http local
HEALTH http :8000/health interval=2s start=10m
METRICS http :8000/metrics
NET egress=none
ENV HF_HUB_OFFLINE=1
ENV TRANSFORMERS_OFFLINE=1
ENV VLLM_NO_USAGE_STATS=1
ENV DO_NOT_TRACK=1
ENTRYPOINT ["serve", "${model_path}", "--served-model-name", "${served_name}", \
"--max-model-len", "${max_model_len}", "--max-num-seqs", "${max_num_seqs}", \
"--max-num-queued-reqs", "${max_queued}", "--enable-server-load-tracking", \
"--enable-request-id-headers", "--disable-uvicorn-access-log", "--shutdown-timeout", "10"]
"""
KV_BYTES_MIN = 64 * 2**20
"""Under it vLLM has too few blocks to start with."""
KV_BYTES_UNKNOWN = 256 * 2**20
"""When nothing is known of the model's shape."""
BUILTIN_NAMES = ("vllm",)
PORT = "{port}"
"""Stands for the loopback port, which the supervisor chooses."""


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """How to start an engine on one machine.

    Attributes:
        argv: Arguments of the engine's command; `{port}` in one is the port chosen for it.
        need: What sizing says it takes; None when the model's shape is not known.
        reasons: Sentences for the operator: why this device, how much it takes.
    """

    engine: str
    device: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    context: int
    slots: int
    need: Need | None
    reasons: tuple[str, ...]


@cache
def builtin_template(name: str) -> Formfile:
    """Return a built-in template by its name.

    Raises:
        UnknownTemplate: there is none of this name.
    """
    if name not in BUILTIN_NAMES:
        raise UnknownTemplate(
            f"no template is called {name[:60]!r}; built in: {', '.join(BUILTIN_NAMES)}"
        )
    return parse_formfile(VLLM_FORMFILE)


def template_of(formfile_template: str) -> Formfile:
    """Return the template that a record's `formfile_template` means.

    Empty is the built-in vLLM template, 64 hex digits are a built-in template's digest, and
    anything else is the text of a Formfile.

    Raises:
        UnknownTemplate: the digest is no built-in template's.
        FormfileError: the text cannot be read.
    """
    if not formfile_template:
        return builtin_template("vllm")
    if len(formfile_template) == 64 and not set(formfile_template) - set("0123456789abcdef"):
        for name in BUILTIN_NAMES:
            found = builtin_template(name)
            if template_digest(found).hex() == formfile_template:
                return found
        raise UnknownTemplate(
            f"template {formfile_template[:16]}... is not built in; put its text in the record"
        )
    return parse_formfile(formfile_template)


def render(
    template: Formfile,
    parameters: Mapping[str, str | int | bool],
    machine: Machine,
    *,
    facts: Facts | None = None,
    requires_gpu: bool = False,
) -> EnginePlan:
    """Return how to run a vLLM template here: arguments by what the machine has.

    Args:
        facts: The model's shape; its context and sequences are taken from the parameters.
        requires_gpu: The record says that a CPU will not do.

    Raises:
        BadParameters, FormfileError: the parameters do not suit the template.
        DoesNotFit: the model does not fit, by which term, and what would.
    """
    bound = bind(template, parameters)
    if bound.engine is None or bound.engine.name != "vllm":
        raise DoesNotFit(f"template {bound.name} has no ENGINE vllm; only vLLM is started here")
    if requires_gpu and not machine.gpus:
        raise DoesNotFit("the record requires a GPU and this machine has none")
    sizes = bound.autosize
    context = sizes.ctx if sizes and isinstance(sizes.ctx, int) else 2048
    slots = sizes.seqs if sizes and isinstance(sizes.seqs, int) else 16
    shaped = replace(facts, context=context, sequences=slots) if facts is not None else None
    device = "cuda" if machine.gpus else "cpu"
    arguments, need, reasons = (
        _on_gpu(machine, shaped) if device == "cuda" else _on_cpu(machine, shaped)
    )
    env = {pair.name: pair.value for pair in bound.env}
    if device == "cpu":
        env |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "OMP_NUM_THREADS": str(max(1, machine.vcpus - 1)),
        }
    argv = (*bound.entrypoint, *_task_arguments(parameter_values(template, parameters)), *arguments)
    where = ("--host", "127.0.0.1", "--port", PORT)
    return EnginePlan("vllm", device, (*argv, *where), env, context, slots, need, reasons)


def _task_arguments(parameters: Mapping[str, str]) -> tuple[str, ...]:
    arguments: tuple[str, ...] = ()
    if parameters.get("task") == "embed":
        arguments += ("--runner", "pooling", "--convert", "embed")
    parser = parameters.get("tool_parser")
    if parser:
        arguments += ("--enable-auto-tool-choice", "--tool-call-parser", parser)
    return arguments


def _on_cpu(
    machine: Machine, facts: Facts | None
) -> tuple[tuple[str, ...], Need | None, tuple[str, ...]]:
    need = check_memory(facts, machine.memory_bytes) if facts is not None else None
    kv = max(KV_BYTES_MIN, need.kv) if need is not None else KV_BYTES_UNKNOWN
    reasons = ["CPU: the machine has no GPU, and the record does not require one"]
    if need is not None:
        reasons.append(
            f"needs {need.memory // 2**20} MiB of {machine.memory_bytes // 2**20} MiB memory: "
            f"weights {need.weights // 2**20}, KV cache {need.kv // 2**20}, "
            f"runtime {need.cpu_runtime // 2**20}"
        )
    arguments = (
        "--dtype", "bfloat16", "--enforce-eager", "--kv-cache-memory-bytes", str(kv),
        "--distributed-executor-backend", "uni",
    )  # fmt: skip
    return arguments, need, tuple(reasons)


def _on_gpu(
    machine: Machine, facts: Facts | None
) -> tuple[tuple[str, ...], Need | None, tuple[str, ...]]:
    smallest = min(gpu.vram_bytes for gpu in machine.gpus)
    count = _gpu_count(machine, facts, smallest)
    need = check_vram(facts, smallest, gpu_count=count) if facts is not None else None
    arguments = ("--gpu-memory-utilization", "0.9", "--tensor-parallel-size", str(count))
    reasons = [f"{count} of {len(machine.gpus)} GPU(s): {machine.gpus[0].name}"]
    if need is not None:
        reasons.append(f"needs {need.vram // 2**20} MiB of {smallest * count // 2**20} MiB VRAM")
    return arguments, need, tuple(reasons)


def _gpu_count(machine: Machine, facts: Facts | None, vram_bytes: int) -> int:
    """Return the fewest GPUs whose number divides the heads and whose memory is enough."""
    if facts is None:
        return 1
    counts = [
        n for n in range(1, len(machine.gpus) + 1) if n == 1 or facts.attention_heads % n == 0
    ]
    need = size(facts).vram
    return next((n for n in counts if n * vram_bytes >= need), counts[-1])
