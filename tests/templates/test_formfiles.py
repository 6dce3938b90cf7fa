"""Formfiles: strict parsing with places, one digest for one tree, and back to text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from templates import (
    BadParameters,
    Formfile,
    FormfileError,
    Param,
    bind,
    builtin_template,
    parse_formfile,
    template_digest,
    write_formfile,
)
from templates.lexer import lex, quote
from templates.tree import Connect, Pair, Secret, Volume

HEAD = "FORMAT 2\nKIND agent\nNAME clerk\n"
EVERY = (
    HEAD
    + f"""VERSION 1.2.3
LICENSE MIT OR Apache-2.0
DESCRIPTION "a # clerk" # and a comment
PARAM port int =8000 min=1 max=65535
PARAM mode text =fast enum=fast,slow
PARAM room size =2GiB
FROM python@sha256:{"ab" * 32}
INSTALL pip langchain==1.0.0 \\
    openai[all]==2.0
COPY src /app
RUN ["sh", "-c", "echo [a, b]"]
WEIGHTS hf:x /weights manifest={"cd" * 32} format=safetensors
ENGINE custom served-name=x api=native
RESOURCES cpu=4..8 mem=16GiB..32GiB disk=60GiB gpu=1 vram=24GiB
AUTOSIZE params=8B quant=AWQ ctx=8192 seqs=16 layers=32 kvheads=8 headdim=128
EXPOSE ${{port}}/http mesh
HEALTH http :${{port}}/health interval=10s start=2m
METRICS http :8000/metrics
MODEL slot=chat need=required type=LLM caps=tools ctx>=8192 ref=deadbeef/tiny^1.2 fallback=any:llm
TOOL search "looks things up"
CAP chat
NET egress=allowlist(example.org,*.example.com:443)
FS /data rw
SECRET API_KEY required
ENV MODE=${{mode}}
VOLUME /data size=${{room}}
INVOKE POST /task request=a.json response=b.json stream=sse
CONNECT link from=a to=b protocol=grpc
RESOURCE x-acme.tpu=2
WORKDIR /app
USER app
ENTRYPOINT ["python", "-m", "clerk", "--port=${{port}}"]
"""
)


def test_every_directive_is_read_and_written_back() -> None:
    tree = parse_formfile(EVERY)

    assert tree.resources is not None
    assert tree.resources.mem is not None
    assert (tree.resources.mem.low, tree.resources.mem.high) == (16 * 2**30, 32 * 2**30)
    assert tree.runs == (("sh", "-c", "echo [a, b]"),)
    assert tree.autosize is not None
    assert tree.autosize.params == 8 * 10**9
    assert parse_formfile(write_formfile(tree)) == tree


def test_the_digest_is_of_the_meaning_not_of_the_spelling() -> None:
    tree = parse_formfile(EVERY)

    other = EVERY.replace("AUTOSIZE params=8B", "AUTOSIZE  params=8000000000")
    assert template_digest(parse_formfile(other)) == template_digest(tree)
    assert template_digest(replace(tree, user="root")) != template_digest(tree)


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("", 1, 1, "FORMAT 2"),
        ("KIND model", 1, 1, "FORMAT 2"),
        ("FORMAT 3", 1, 8, "unknown"),
        (HEAD + "ENGIN vllm", 4, 1, "ENGINE"),
        (HEAD + "engine vllm", 4, 1, "ENGINE"),
        (HEAD + "NAME again", 4, 1, "second time"),
        (HEAD + "KIND", 4, 1, "needs kind"),
        (HEAD + "WORKDIR /a b", 4, 12, "left over"),
        (HEAD + "WORKDIR /a/../b", 4, 9, "'..'"),
        (HEAD + "ENV A=${nope}", 4, 5, "not a declared"),
        (HEAD + "ENV A=${nope", 4, 5, "without its }"),
        (HEAD + "ENV A=1\nENV A=2", 5, 1, "second time"),
        (HEAD + "ENV A='x", 4, 7, "does not end"),
        (HEAD + 'ENV A="\\q"', 4, 8, "escape"),
        (HEAD + "ENV A=1 \\", 4, 9, "continued"),
        (HEAD + "RESOURCES cpu=4 mem=16", 4, 17, "unit"),
        (HEAD + "RESOURCES cpu=4..2", 4, 11, "below the minimum"),
        (HEAD + "RESOURCES cpus=4", 4, 11, "cpu="),
        (HEAD + "RESOURCES cpu=4 cpu=5", 4, 17, "second time"),
        (HEAD + "WEIGHTS a b format=gguf", 4, 13, "manifest="),
        (HEAD + "FROM python:3", 4, 6, "digest"),
        (HEAD + "INSTALL pip requests", 4, 13, "exact version"),
        (HEAD + "RUN echo hi", 4, 5, "takes ["),
        (HEAD + "RUN [a b]", 4, 8, "not expected"),
        (HEAD + "EXPOSE 0/http mesh", 4, 8, "PORT"),
        (HEAD + "PARAM p text pattern=(a+)+", 4, 14, "pattern"),
        (HEAD + "SECRET KEY value", 4, 12, "none of required"),
        ("FORMAT 2\nKIND agent", 2, 6, "no NAME"),
        (HEAD + "USER a\x07", 4, 7, "control"),
    ],
)
def test_an_error_has_a_line_a_column_and_a_hint(
    text: str, line: int, column: int, says: str
) -> None:
    with pytest.raises(FormfileError) as caught:
        parse_formfile(text)

    assert (caught.value.line, caught.value.column) == (line, column), caught.value
    assert says in str(caught.value)


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t\"'\\#[], "))
PLAIN = TEXT.map(lambda t: t.replace("$", ""))


@given(TEXT)
def test_a_quoted_word_is_read_back_as_itself(text: str) -> None:
    [[_, token]] = lex("X " + quote(text))

    assert token.text == text


@given(
    name=PLAIN,
    words=st.lists(PLAIN, min_size=1, max_size=4),
    value=PLAIN,
    size=st.integers(0, 2**62),
)
def test_any_tree_is_written_and_read_back(
    name: str, words: list[str], value: str, size: int
) -> None:
    tree = Formfile(
        kind="agent",
        name=name,
        params=(Param("p", "text", value),),
        runs=(tuple(words),),
        env=(Pair("A", value),),
        secrets=(Secret("S"), Secret("T", "required")),
        volumes=(Volume("/v", size),),
        connects=(Connect("c", "a", "b"),),
        entrypoint=tuple(words),
    )

    assert parse_formfile(write_formfile(tree)) == tree


@given(st.text(max_size=200) | st.text("FORMAT2 KINDRU[]\"'\\${}#=,\n", max_size=80))
def test_garbage_is_an_error_with_a_place_or_a_tree(text: str) -> None:
    for candidate in (text, HEAD + text):
        line, column = place_of_fault(candidate)
        assert line >= 1
        assert column >= 1


def place_of_fault(text: str) -> tuple[int, int]:
    try:
        parse_formfile(text)
    except FormfileError as error:
        return error.line, error.column
    return 1, 1


def test_parameters_are_checked_all_at_once() -> None:
    with pytest.raises(BadParameters) as caught:
        bind(parse_formfile(EVERY), {"port": 0, "mode": "medium", "rom": "1GiB", "room": "lots"})

    assert len(caught.value.faults) == 4


@given(TEXT.filter(lambda t: t.isprintable() and 0 < len(t) < 100))
@example("$${")
@example("${served_name}")
@example("$${served_name}")
def test_a_value_stays_one_word_whatever_is_in_it(text: str) -> None:
    bound = bind(builtin_template("vllm"), {"model_path": text, "served_name": "x"})

    assert bound.entrypoint[1] == text
    assert len(bound.entrypoint) == len(builtin_template("vllm").entrypoint)


def test_an_escaped_opening_next_to_a_parameter_stays_text() -> None:
    text = HEAD + 'PARAM p text\nRUN ["$${", "$${p}${p}", "$$${p}", "${p}$${"]\n'

    bound = bind(parse_formfile(text), {"p": "$${"})

    assert bound.runs == (("${", "${p}$${", "$${p}", "$${${"),)


def test_binding_leaves_no_parameter() -> None:
    bound = bind(parse_formfile(EVERY), {"port": 9000})

    assert bound.params == ()
    assert bound.entrypoint[-1] == "--port=9000"
    assert bound.exposes[0].port == "9000/http"
    assert bound.volumes[0].size == 2 * 2**30
