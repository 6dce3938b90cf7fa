"""Planning: what fits where, what does not and why, and the command line that comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crdt import RecordKind
from inference import CannotServe, DoesNotFit
from inference.placement import (
    Device,
    Gpu,
    Machine,
    ModelShape,
    choose_device,
    read_shape,
    size_engine,
)
from node.planning import planner
from registry import AIModel, ModelResourceRequirements, validate

GIB = 2**30
CPU = Machine(vcpus=2, memory_bytes=8 * GIB, memory_free_bytes=6 * GIB, disk_free_bytes=50 * GIB)
H200 = Gpu(0, "NVIDIA H200", 140 * GIB, 139 * GIB)
GPU = Machine(16, 128 * GIB, 120 * GIB, 64 * GIB, (Gpu(1, "T4", 15 * GIB, 4 * GIB), H200))
SMALL = ModelResourceRequirements()
TINY = {
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "hidden_size": 64, "max_position_embeddings": 2048,
}  # fmt: skip


def needs(**changes: Any) -> ModelResourceRequirements:
    return ModelResourceRequirements(**changes)


def a_model(**changes: Any) -> AIModel:
    model = validate(RecordKind.MODEL, {"name": "Tiny", "context_length": 1024} | changes)
    assert isinstance(model, AIModel)
    return model


@pytest.fixture
def tree(tmp_path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "machine", "choice", "device"),
    [
        (SMALL, CPU, "auto", "cpu"),
        (SMALL, GPU, "auto", "NVIDIA H200"),
        (SMALL, GPU, "cpu", "cpu"),
        (needs(requires_gpu=True, min_vram_gb=100), GPU, "auto", "NVIDIA H200"),
    ],
)
def test_the_device_is_chosen_with_a_reason(given, machine, choice, device):
    chosen = choose_device(given, machine, choice)
    assert chosen.name == device
    assert chosen.reason


@pytest.mark.parametrize(
    ("given", "machine", "choice", "says"),
    [
        (needs(min_vcpus=4, recommended_vcpus=4), CPU, "auto", "4 processors .* has 2"),
        (needs(min_memory_mb=9000, recommended_memory_mb=9000), CPU, "auto", "9000 MiB .* 8192"),
        (needs(requires_gpu=True), CPU, "auto", "requires a GPU and this machine has none"),
        (needs(requires_gpu=True), GPU, "cpu", r"engines\.device is cpu"),
        (needs(requires_gpu=True, min_vram_gb=200), GPU, "auto", "200 GiB .* H200 has 140"),
        (SMALL, CPU, "cuda", r"engines\.device asks for a GPU"),
    ],
)
def test_what_does_not_fit_says_which_term(given, machine, choice, says):
    with pytest.raises(DoesNotFit, match=says):
        choose_device(given, machine, choice)


def test_sequences_are_given_up_before_the_context():
    # templates.md's worked check: 8 B parameters, AWQ, 128 KiB a token, 1 GiB a sequence of 8192.
    shape = ModelShape(layers=32, kv_heads=8, head_dim=128, context_max=131072)
    assert shape.kv_bytes_per_token == 128 * 1024
    weights = int(4.5 * GIB)
    gpu = Gpu(0, "24 GiB", 24 * GIB, 24 * GIB)
    sizing = size_engine(shape, weights, Device(gpu, ""), GPU, 8192)
    assert sizing.context == 8192
    assert sizing.slots == 15
    with pytest.raises(DoesNotFit, match="largest part is weights"):
        size_engine(shape, 23 * GIB, Device(gpu, ""), GPU, 8192)
    with pytest.raises(DoesNotFit, match="shorter context"):
        size_engine(shape, 4 * GIB, Device(gpu, ""), GPU, None)


@pytest.mark.parametrize("asked", [None, 4096])
def test_a_context_is_never_longer_than_the_model_s(asked):
    sizing = size_engine(read_shape(TINY), 1000, Device(None, ""), CPU, asked)
    assert (sizing.context, sizing.slots) == (2048, 16)


@pytest.mark.parametrize("value", [0, -1, "2", 2.0, True, None, 2**40])
def test_a_config_that_lies_is_refused(value):
    with pytest.raises(CannotServe, match="num_hidden_layers"):
        read_shape(TINY | {"num_hidden_layers": value})


def test_missing_heads_follow_from_the_others_and_inner_configs_count():
    bare = {k: v for k, v in TINY.items() if k not in {"num_key_value_heads", "head_dim"}}
    assert read_shape(bare) == ModelShape(2, 4, 16, 2048)
    assert read_shape({"text_config": TINY}) == read_shape(TINY)


def test_the_cpu_command_line(tree):
    plan = planner(tree / "engines", read=lambda _folder: CPU).prepare(a_model(), tree, "a/tiny")
    argv = " ".join(plan.argv)
    assert argv.startswith(
        f"serve {tree} --served-model-name a/tiny --host 127.0.0.1 --port {{port}}"
    )
    assert "--max-model-len 1024 --max-num-seqs 16 --max-num-queued-reqs 128" in argv
    assert "--dtype bfloat16 --enforce-eager --distributed-executor-backend uni" in argv
    assert plan.env["OMP_NUM_THREADS"] == "1"
    assert (plan.engine, plan.device, plan.context, plan.slots) == ("vllm", "cpu", 1024, 16)
    assert plan.environment.spec.name.startswith("vllm-cpu")


def test_the_gpu_command_line(tree):
    plan = planner(tree / "engines", read=lambda _folder: GPU).prepare(a_model(), tree, "a/tiny")
    assert plan.device == "NVIDIA H200"
    assert plan.env["CUDA_VISIBLE_DEVICES"] == "0"
    assert "--enforce-eager" not in plan.argv
    assert plan.environment.spec.device == "gpu"


def test_an_embedding_model_pools(tree):
    model = a_model(model_type="Embedding")
    plan = planner(tree, read=lambda _folder: CPU).prepare(model, tree, "e")
    assert "--runner pooling --convert embed" in " ".join(plan.argv)


@pytest.mark.parametrize("raw", [None, b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_build_without_a_proper_config_is_refused(tree, raw):
    path = tree / "config.json"
    path.unlink() if raw is None else path.write_bytes(raw)
    with pytest.raises(CannotServe, match=r"config\.json"):
        planner(tree, read=lambda _folder: CPU).prepare(a_model(), tree, "x")


def test_a_build_without_weights_is_refused(tree):
    (tree / "model.safetensors").unlink()
    with pytest.raises(CannotServe, match="no weights"):
        planner(tree, read=lambda _folder: CPU).prepare(a_model(), tree, "x")
