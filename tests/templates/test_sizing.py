"""Sizing: computed from facts; what does not fit is refused with the term and a way out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import ModelResourceRequirements
from templates import (
    DoesNotFit,
    Facts,
    Gpu,
    Machine,
    UnknownTemplate,
    builtin_template,
    check_memory,
    check_vram,
    facts_from_config,
    misfits,
    profiles,
    render,
    sequences_that_fit,
    size,
    template_digest,
    template_of,
)

GIB = 2**30
EIGHT_B = Facts(8 * 10**9, "AWQ", 8192, 16, layers=32, kv_heads=8, head_dim=128, attention_heads=32)
TINY = Facts(300_000, "BF16", 512, 16, layers=2, kv_heads=2, head_dim=32, attention_heads=4)
LAPTOP = Machine(vcpus=2, memory_bytes=8 * GIB, disk_free_bytes=50 * GIB)
GIVEN = {"model_path": "/models/tiny", "served_name": "tiny", "max_model_len": 512}


def test_the_worked_check() -> None:
    need = size(EIGHT_B)

    assert EIGHT_B.kv_per_token == 128 * 1024
    assert need.kv == 16 * GIB
    assert need.weights == 4_500_000_000
    assert need.vram * 10 // GIB == 245
    with pytest.raises(DoesNotFit) as caught:
        check_vram(EIGHT_B, 24 * GIB)
    for part in ("24.51 GiB", "24.00 GiB", "largest term is KV cache", "15 concurrent sequences"):
        assert part in str(caught.value)
    assert check_vram(replace(EIGHT_B, sequences=15), 24 * GIB).vram <= 24 * GIB


@given(st.integers(1, 64 * GIB), st.integers(1, 64))
def test_what_is_said_to_fit_fits_and_one_more_does_not(vram: int, sequences: int) -> None:
    facts = replace(EIGHT_B, sequences=sequences)
    machine = Machine(1, 1, 1, (Gpu("x", vram),))
    count = sequences_that_fit(facts, machine, gpu=True)

    if count:
        check_vram(replace(facts, sequences=count), vram)
    if count < sequences:
        with pytest.raises(DoesNotFit):
            check_vram(replace(facts, sequences=count + 1), vram)


def test_the_number_of_gpus_divides_the_heads() -> None:
    with pytest.raises(DoesNotFit, match="32 attention heads"):
        check_vram(EIGHT_B, 24 * GIB, gpu_count=3)
    assert check_vram(EIGHT_B, 24 * GIB, gpu_count=2)


def test_an_unknown_quantization_is_not_guessed() -> None:
    with pytest.raises(DoesNotFit, match="EXL2"):
        size(replace(TINY, quantization="EXL2"))
    assert size(replace(TINY, quantization="EXL2", weights_exact=9)).weights == 9


def test_facts_come_from_the_config_and_contradictions_are_refused() -> None:
    config = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
              "hidden_size": 64, "head_dim": 32, "max_position_embeddings": 512}  # fmt: skip
    stated = {"parameters": 300_000, "quantization": "BF16", "sequences": 16}

    assert facts_from_config(config, context=512, **stated) == TINY  # type: ignore[arg-type]
    with pytest.raises(DoesNotFit, match="max_position_embeddings"):
        facts_from_config(config, context=513, **stated)  # type: ignore[arg-type]
    with pytest.raises(DoesNotFit, match="num_hidden_layers"):
        facts_from_config({**config, "num_hidden_layers": "2"}, context=5, **stated)  # type: ignore[arg-type]


def test_profiles_recommend_no_less_than_the_smallest() -> None:
    found = profiles(EIGHT_B)

    assert [p.workload for p in found] == ["interactive", "batch", "long context"]
    assert all(p.recommended.vram >= p.smallest.vram for p in found)


def test_vllm_on_a_cpu() -> None:
    plan = render(builtin_template("vllm"), GIVEN, LAPTOP, facts=TINY)

    assert plan.device == "cpu"
    assert plan.argv[:2] == ("serve", "/models/tiny")
    assert "--enforce-eager" in plan.argv
    assert plan.argv[plan.argv.index("--distributed-executor-backend") + 1] == "uni"
    assert plan.argv[-4:] == ("--host", "127.0.0.1", "--port", "{port}")
    assert plan.env["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert plan.env["OMP_NUM_THREADS"] == "1"
    assert (plan.context, plan.slots) == (512, 16)


def test_vllm_on_gpus_takes_as_many_as_it_needs() -> None:
    machine = replace(LAPTOP, gpus=(Gpu("x", 24 * GIB),) * 2)
    plan = render(
        builtin_template("vllm"), {**GIVEN, "max_model_len": 8192}, machine, facts=EIGHT_B
    )

    assert plan.device == "cuda"
    assert plan.argv[plan.argv.index("--tensor-parallel-size") + 1] == "2"
    assert "--enforce-eager" not in plan.argv


def test_what_cannot_run_here_is_refused_with_the_reason() -> None:
    with pytest.raises(DoesNotFit, match="requires a GPU"):
        render(builtin_template("vllm"), GIVEN, LAPTOP, requires_gpu=True)
    with pytest.raises(DoesNotFit, match="largest term is KV cache"):
        render(builtin_template("vllm"), {**GIVEN, "max_model_len": 8192}, LAPTOP, facts=EIGHT_B)
    with pytest.raises(DoesNotFit):
        check_memory(TINY, GIB // 2)


def test_embeddings_get_a_pooling_runner() -> None:
    plan = render(builtin_template("vllm"), {**GIVEN, "task": "embed"}, LAPTOP)

    assert plan.argv[plan.argv.index("--runner") + 1] == "pooling"


def test_a_record_pins_a_template_by_digest_or_carries_its_text() -> None:
    digest = template_digest(builtin_template("vllm")).hex()

    assert template_of(digest) == template_of("") == builtin_template("vllm")
    with pytest.raises(UnknownTemplate):
        template_of("ab" * 32)


def test_declared_minimums_against_a_machine() -> None:
    assert misfits(ModelResourceRequirements(), LAPTOP) == ()
    needs = ModelResourceRequirements(min_vcpus=4, requires_gpu=True)
    assert [text.partition(":")[0] for text in misfits(needs, LAPTOP)] == ["vCPUs", "GPU"]
