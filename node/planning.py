"""How a model runs on this machine: record, template, files and hardware become a command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from inference import CannotServe
from inference.engines import VLLM_CPU, VLLM_GPU, EngineEnvironment
from node.hardware import Hardware, read_hardware
from node.serving import Prepared
from templates import (
    DoesNotFit,
    Facts,
    Formfile,
    facts_from_config,
    misfits,
    render,
    sequences_that_fit,
    template_of,
)

if TYPE_CHECKING:
    from registry import AIModel

DeviceChoice = Literal["auto", "cpu", "cuda"]
CONFIG_BYTES_MAX = 4 * 2**20
SLOTS_CPU, SLOTS_GPU = 16, 64
"""Sequences at once, when there is room for so many."""
QUEUE_PER_SLOT = 8
"""Requests that wait in the engine; the router sees the queue and goes elsewhere before."""
WEIGHT_SUFFIXES = (".safetensors", ".gguf", ".bin", ".pt")


def planner(
    engines_folder: Path,
    *,
    device: DeviceChoice = "auto",
    read: Callable[[Path], Hardware] = read_hardware,
) -> VllmPlanner:
    """Return the planner for this machine; `engines_folder` holds the engines' environments."""
    return VllmPlanner(engines_folder, device, read)


@dataclass(frozen=True, slots=True)
class VllmPlanner:
    """Fits the `Planner` port of `node.serving`, for vLLM."""

    engines_folder: Path
    device: DeviceChoice
    read: Callable[[Path], Hardware]

    def check(self, model: AIModel) -> tuple[str, ...]:
        """Return why the model can run here, before anything is fetched.

        Raises:
            DoesNotFit: the machine, or the setting `engines.device`, is not what the record needs.
        """
        hardware = self._hardware(model)
        missing = misfits(model.resource_requirements, hardware.total)
        if missing:
            raise DoesNotFit(f"{model.name} does not fit this machine: {'; '.join(missing)}")
        on = hardware.total.gpus[0].name if hardware.total.gpus else "the CPU"
        needs = model.resource_requirements
        asks = f"{needs.min_vcpus} processors, {needs.min_memory_mb} MiB of memory"
        gpu = "a" if needs.requires_gpu else "no"
        return (f"{model.name} asks for {asks} and {gpu} GPU: {on} will do",)

    def prepare(self, model: AIModel, tree: Path, served_name: str) -> Prepared:
        """Return the command line for the model whose files are in `tree`.

        Raises:
            UserFault: it does not fit, or its template or files are not what vLLM needs.
        """
        free = self._hardware(model).free
        facts = _facts(model, tree, gpu=bool(free.gpus))
        # Sequences are given up before the context, which the record promises.
        slots = sequences_that_fit(facts, free, gpu=bool(free.gpus)) or 1
        template = template_of(model.formfile_template)
        plan = render(
            template,
            _parameters(template, model, tree, served_name, replace(facts, sequences=slots)),
            free,
            facts=facts,
            requires_gpu=model.resource_requirements.requires_gpu,
        )
        spec = VLLM_CPU if plan.device == "cpu" else VLLM_GPU
        cache = str(self.engines_folder / "cache")
        return Prepared(
            engine=plan.engine,
            environment=EngineEnvironment(spec, self.engines_folder),
            device="cpu" if plan.device == "cpu" else free.gpus[0].name[:60],
            argv=plan.argv,
            env={"VLLM_CACHE_ROOT": cache, "VLLM_CONFIG_ROOT": cache, **plan.env},
            context=plan.context,
            slots=plan.slots,
            reasons=plan.reasons,
        )

    def _hardware(self, model: AIModel) -> Hardware:
        hardware = self.read(self.engines_folder)
        if self.device == "cuda" and not hardware.total.gpus:
            raise DoesNotFit(
                "engines.device is cuda and nvidia-smi shows no GPU; mend the driver, or set "
                "engines.device to auto"
            )
        if self.device == "cpu":
            if model.resource_requirements.requires_gpu:
                raise DoesNotFit(f"{model.name} requires a GPU and engines.device is cpu")
            return hardware.without_gpus()
        return hardware


def _facts(model: AIModel, tree: Path, *, gpu: bool) -> Facts:
    from registry import plain

    config = _config(tree)
    longest = config.get("max_position_embeddings")
    return facts_from_config(
        config,
        parameters=model.parameters,
        quantization=plain(model.quantization) or "BF16",
        context=model.context_length or (longest if type(longest) is int else 2048),
        sequences=SLOTS_GPU if gpu else SLOTS_CPU,
        weights_exact=_weights(tree),
    )


def _parameters(
    template: Formfile, model: AIModel, tree: Path, served_name: str, facts: Facts
) -> Mapping[str, str | int | bool]:
    """Return values for those parameters that the template declares; the rest has defaults."""
    from registry import plain

    embeds = plain(model.model_type) == "Embedding"
    values: dict[str, str | int | bool] = {
        "model_path": str(tree),
        "served_name": served_name,
        "max_model_len": facts.context,
        "max_num_seqs": facts.sequences,
        "max_queued": facts.sequences * QUEUE_PER_SLOT,
        "task": "embed" if embeds else "generate",
    }
    declared = {param.name for param in template.params}
    return {name: value for name, value in values.items() if name in declared}


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
