"""The machine as containers limit it, and as nvidia-smi says it."""

from __future__ import annotations

import os

import pytest

from node.hardware import parse_gpus, read_hardware
from templates import Gpu

GIB = 2**30


def test_this_machine_has_something(tmp_path):
    found = read_hardware(tmp_path / "not" / "there", cgroup=tmp_path)
    assert found.total.vcpus == len(os.sched_getaffinity(0))
    assert 0 < found.free.memory_bytes <= found.total.memory_bytes
    assert found.total.disk_free_bytes > 0


def test_a_container_s_limits_count(tmp_path):
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "memory.max").write_text(f"{GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB // 4}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {GIB // 8}\n")
    found = read_hardware(tmp_path, cgroup=tmp_path)
    assert found.total.vcpus == 1
    assert found.total.memory_bytes == GIB
    assert found.free.memory_bytes == GIB * 7 // 8


@pytest.mark.parametrize(
    ("cpu", "memory"), [("max 100000", "max"), ("x", "y"), ("", ""), ("1 0", "1")]
)
def test_odd_limits_do_no_harm(tmp_path, cpu, memory):
    (tmp_path / "cpu.max").write_text(cpu)
    (tmp_path / "memory.max").write_text(memory)
    (tmp_path / "memory.current").write_text("0")
    assert read_hardware(tmp_path, cgroup=tmp_path).total.vcpus >= 1


def test_gpus_are_read_and_odd_rows_left_out():
    text = "NVIDIA H200, 143771, 143000\nNVIDIA H200, [N/A], [N/A]\nnonsense\n\n"
    whole, free = parse_gpus(text)
    assert whole == (Gpu("NVIDIA H200", 143771 << 20),)
    assert free == (Gpu("NVIDIA H200", 143000 << 20),)
