"""An inline Formfile that cannot be read is refused, with its place, before anything is signed."""

from __future__ import annotations

import pytest

from node.client.writing import prepare
from registry import InvalidRecord
from templates import VLLM_FORMFILE
from tests.node.api_support import running_api
from tests.writers import Writer

BAD = VLLM_FORMFILE.rstrip() + "\nRNU x\n"
LINE = len(BAD.splitlines())
GOOD = ["", "a" * 64, VLLM_FORMFILE]


@pytest.mark.parametrize("template", GOOD)
def test_a_digest_and_a_readable_formfile_pass(template):
    draft = prepare("agents", {"name": "A", "formfile_template": template}, slug=None, now_s=1)
    assert draft.slug == "a"


@pytest.mark.parametrize("plural", ["models", "agents"])
def test_the_command_line_names_the_place_before_it_signs(plural):
    with pytest.raises(InvalidRecord, match=rf"formfile_template = .*line {LINE}, column 1"):
        prepare(plural, {"name": "A", "formfile_template": BAD}, slug=None, now_s=1)


@pytest.mark.parametrize("plural", ["models", "agents"])
async def test_the_api_names_the_place(tmp_path, plural):
    async with running_api(tmp_path) as api:
        status, problem = await api.create(
            Writer("ann"), {"name": "A", "formfile_template": BAD}, plural=plural
        )
        assert (status, problem["code"]) == (422, "invalid-record")
        (one,) = problem["problems"]
        assert one["field"] == "formfile_template"
        assert f"line {LINE}, column 1" in one["message"]
        status, _ = await api.create(
            Writer("ann"), {"name": "A", "formfile_template": VLLM_FORMFILE}, plural=plural
        )
        assert status == 201
