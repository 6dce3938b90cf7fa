"""Version 1 files: the same tree, bounds kept, unknown keywords warned of."""

from __future__ import annotations

import pytest

from templates import FormfileError, parse_formfile, read_formfile, write_formfile

OLD = """\
NAME clerk
DESCRIPTION answers questions
MODEL tiny
INSTALL curl
RUN echo hi > /tmp/x
ENV MODE fast
CORES 4
MEMORY 2048
STORAGE 50
GPU H100:2
COLOUR blue
ENTRYPOINT python -m clerk
"""


def test_a_version_1_file_is_read_and_can_be_written_as_version_2() -> None:
    tree, warnings = read_formfile(OLD)

    assert [(w.line, w.column) for w in warnings] == [(11, 1)]
    assert "COLOUR" in warnings[0].message
    assert tree.resources is not None
    assert tree.resources.gpu is not None
    assert tree.resources.gpu.low == 2
    assert tree.entrypoint[-1] == "python -m clerk"
    assert parse_formfile(write_formfile(tree)) == tree


@pytest.mark.parametrize(
    "line",
    [
        "VCPU 129",
        "MEM 511",
        "DISK 4",
        "GPU A100",
        "GPU H100:9",
        "VCPU many",
        "NAME again",
        "COPY a",
    ],
)
def test_a_bound_that_is_broken_is_an_error_with_its_place(line: str) -> None:
    with pytest.raises(FormfileError) as caught:
        read_formfile(f"NAME x\n{line}\n")

    assert caught.value.line == 2


def test_a_version_2_file_has_no_warnings() -> None:
    assert read_formfile("FORMAT 2\nKIND agent\nNAME x\n")[1] == ()
