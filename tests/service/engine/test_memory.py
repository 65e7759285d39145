"""Memory for keys and values: what is really there, and no more than is of use."""

from pathlib import Path

import pytest
import torch

from service.engine import memory
from service.engine.attention import Shapes

MIB = 2**20


def group(directory: Path, **files: object) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name.replace("__", ".")).write_text(f"{content}\n")


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    groups.mkdir()
    (proc / "meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    (proc / "self" / "cgroup").write_text("0::/\n")
    monkeypatch.setattr(memory, "_PROC", proc)
    monkeypatch.setattr(memory, "_CGROUPS", groups)
    return tmp_path


def available() -> int:
    return memory.available(torch.device("cpu")) // MIB


def test_without_a_limit_it_is_what_the_machine_has_left(system: Path) -> None:
    assert available() == 8192
    group(system / "cgroup", memory__max="max", memory__current=5, memory__stat="inactive_file 0")
    assert available() == 8192


def test_limit_of_the_container_counts_less_what_is_used_and_cannot_be_dropped(system: Path) -> None:
    statistics = f"inactive_file {100 * MIB}\nactive_file {50 * MIB}\nanon {450 * MIB}"
    group(system / "cgroup", memory__max=1024 * MIB, memory__current=600 * MIB, memory__stat=statistics)
    assert available() == 1024 - 600 + 150


def test_tightest_of_the_groups_above_counts(system: Path) -> None:
    (system / "proc" / "self" / "cgroup").write_text("0::/pods/one\n")
    pods = system / "cgroup" / "pods"
    group(pods, memory__max=700 * MIB, memory__current=100 * MIB, memory__stat="inactive_file 0")
    group(pods / "one", memory__max=1000 * MIB, memory__current=100 * MIB, memory__stat="inactive_file 0")
    assert available() == 600


def test_first_version_of_control_groups(system: Path) -> None:
    (system / "proc" / "self" / "cgroup").write_text("4:cpu,memory:/docker/abc\n0::/\n")
    statistics = f"total_inactive_file {30 * MIB}\ntotal_active_file 0"
    group(
        system / "cgroup" / "memory",
        memory__limit_in_bytes=512 * MIB,
        memory__usage_in_bytes=212 * MIB,
        memory__stat=statistics,
    )
    assert available() == 330
    group(
        system / "cgroup" / "memory",
        memory__limit_in_bytes=2**63 - 4096,
        memory__usage_in_bytes=1,
        memory__stat="inactive_file 0",
    )
    assert available() == 8192


def test_plan_takes_no_more_than_can_be_used() -> None:
    assert memory.plan(2**40, 1000, context_tokens=1000, max_running=4, share=0.5) == (4096, 256)


def test_plan_shares_what_there_is() -> None:
    running, pages = memory.plan(10_000_000, 1000, context_tokens=2000, max_running=64, share=0.8)
    assert running == 27 * 256  # of 8000 tokens, seven eighths, in whole regions
    assert pages == (8000 - running) // 16


def test_too_little_memory_says_what_would_fit() -> None:
    with pytest.raises(
        ValueError, match="the context is 4096: give the server more memory, or set MAX_MODEL_LEN to at most 768"
    ):
        memory.plan(1_000_000, 1000, context_tokens=4096, max_running=1, share=1)


def test_bytes_of_a_token() -> None:
    shapes = Shapes({0: (torch.Size((2, 64)), torch.Size((2, 32))), 1: (torch.Size((2, 64)), torch.Size((2, 32)))})
    shapes.dtype = torch.bfloat16
    assert memory.token_bytes(shapes) == 2 * 2 * (64 + 32) * 2
