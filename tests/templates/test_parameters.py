"""What a creator presets, and what stays the deployer's to set."""

from __future__ import annotations

import pytest

from templates import (
    BadParameters,
    bind,
    builtin_template,
    parse_formfile,
    preset,
    template_digest,
    write_formfile,
)

VLLM = builtin_template("vllm")


def test_a_preset_changes_a_default_and_leaves_every_parameter() -> None:
    changed = preset(VLLM, {"max_model_len": 512})
    assert [param.name for param in changed.params] == [param.name for param in VLLM.params]
    bound = bind(changed, {"model_path": "/weights", "served_name": "ada/tiny"})
    assert "512" in bound.entrypoint
    again = bind(changed, {"model_path": "/w", "served_name": "t", "max_model_len": 1024})
    assert "1024" in again.entrypoint


def test_a_preset_is_a_template_of_its_own() -> None:
    changed = preset(VLLM, {"max_model_len": 512})
    assert parse_formfile(write_formfile(changed)) == changed
    assert template_digest(changed) != template_digest(VLLM)
    assert preset(VLLM, {}) == VLLM


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_model_len": 1}, "below the minimum 16"),
        ({"max_model_len": "many"}, "not an integer"),
        ({"max_model_length": 5}, "did you mean max_model_len"),
        ({"task": "sing"}, "none of generate, embed"),
    ],
)
def test_a_preset_that_the_template_does_not_take_is_refused(
    given: dict[str, str | int | bool], said: str
) -> None:
    with pytest.raises(BadParameters, match=said):
        preset(VLLM, given)
