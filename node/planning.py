"""How a model runs on this machine: record, files and hardware become a command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from inference import CannotServe
from inference.engines import VLLM_CPU, VLLM_GPU, EngineEnvironment
from inference.placement import (
    Device,
    DeviceChoice,
    Machine,
    Sizing,
    choose_device,
    read_shape,
    size_engine,
)
from node.hardware import read_hardware
from node.serving import Prepared

if TYPE_CHECKING:
    from registry import AIModel

CONFIG_BYTES_MAX = 4 * 2**20
QUEUE_PER_SLOT = 8
"""Requests that wait in the engine; the router sees the queue and goes elsewhere before."""
WEIGHT_SUFFIXES = (".safetensors", ".gguf", ".bin", ".pt")


def planner(
    engines_folder: Path,
    *,
    device: DeviceChoice = "auto",
    read: Callable[[Path], Machine] = read_hardware,
) -> VllmPlanner:
    """Return the planner for this machine; `engines_folder` holds the engines' environments."""
    return VllmPlanner(engines_folder, device, read)


@dataclass(frozen=True, slots=True)
class VllmPlanner:
    """Fits the `Planner` port of `node.serving`, for vLLM."""

    engines_folder: Path
    device: DeviceChoice
    read: Callable[[Path], Machine]

    def check(self, model: AIModel) -> tuple[str, ...]:
        """Return why the model can run here, before anything is fetched."""
        machine = self.read(self.engines_folder)
        return (choose_device(model.resource_requirements, machine, self.device).reason,)

    def prepare(self, model: AIModel, tree: Path, served_name: str) -> Prepared:
        """Return the command line for the model whose files are in `tree`."""
        machine = self.read(self.engines_folder)
        device = choose_device(model.resource_requirements, machine, self.device)
        shape = read_shape(_config(tree))
        sizing = size_engine(shape, _weights(tree), device, machine, model.context_length)
        spec = VLLM_CPU if device.gpu is None else VLLM_GPU
        return Prepared(
            engine="vllm",
            environment=EngineEnvironment(spec, self.engines_folder),
            device=device.name,
            argv=_arguments(model, tree, served_name, device, sizing),
            env=_variables(self.engines_folder, device, machine),
            context=sizing.context,
            slots=sizing.slots,
            reasons=(device.reason, sizing.reason),
        )


def _arguments(
    model: AIModel, tree: Path, served_name: str, device: Device, sizing: Sizing
) -> tuple[str, ...]:
    from registry import plain

    arguments = [
        "serve", str(tree), "--served-model-name", served_name,
        "--host", "127.0.0.1", "--port", "{port}",
        "--max-model-len", str(sizing.context), "--max-num-seqs", str(sizing.slots),
        "--max-num-queued-reqs", str(sizing.slots * QUEUE_PER_SLOT),
        "--kv-cache-memory-bytes", str(sizing.kv_bytes),
        "--enable-server-load-tracking", "--enable-request-id-headers",
        "--disable-uvicorn-access-log", "--shutdown-timeout", "10",
    ]  # fmt: skip
    if device.gpu is None:
        exact = plain(model.quantization) == "FP32"
        arguments += ["--dtype", "float32" if exact else "bfloat16", "--enforce-eager"]
        # The default executor starves the API server: first token after 113 ms instead of 6.6.
        arguments += ["--distributed-executor-backend", "uni"]
    if plain(model.model_type) == "Embedding":
        arguments += ["--runner", "pooling", "--convert", "embed"]
    return tuple(arguments)


def _variables(engines_folder: Path, device: Device, machine: Machine) -> dict[str, str]:
    cache = str(engines_folder / "cache")
    variables = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CACHE_ROOT": cache,
        "VLLM_CONFIG_ROOT": cache,
    }
    if device.gpu is None:
        variables["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        # One processor is left to the API server and to the node.
        variables["OMP_NUM_THREADS"] = str(max(1, machine.vcpus - 1))
    else:
        variables["CUDA_VISIBLE_DEVICES"] = str(device.gpu.index)
    return variables


def _config(tree: Path) -> dict[str, Any]:
    path = tree / "config.json"
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise CannotServe(f"config.json of the build is over {CONFIG_BYTES_MAX} bytes")
        value: Any = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CannotServe(
            "the build has no config.json, which vLLM needs; is it the right build?"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CannotServe(f"config.json of the build is not JSON: {str(error)[:100]}") from error
    if not isinstance(value, dict):
        raise CannotServe("config.json of the build is not a JSON object")
    return cast("dict[str, Any]", value)


def _weights(tree: Path) -> int:
    """Return the bytes of the weight files: on this machine the files say more than any table."""
    files = [path for path in tree.rglob("*") if path.suffix in WEIGHT_SUFFIXES]
    if not files:
        raise CannotServe(f"the build has no weights ({', '.join(WEIGHT_SUFFIXES)})")
    return sum(path.stat().st_size for path in files)
