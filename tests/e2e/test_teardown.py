"""`down` leaves nothing. It sorts last of the end-to-end tests, since it takes the cluster away from under them."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from local.cluster import cgroups
from local.cluster.daemon import marked_processes
from local.cluster.layout import ETCD_CLIENT_PORT
from local.paths import Paths
from local.project import ROOT

pytestmark = pytest.mark.e2e


UP_SECONDS = 240.0


def local(*arguments: str, checkout: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local", *arguments],
        cwd=checkout, env={**os.environ, **environment}, capture_output=True, text=True, timeout=UP_SECONDS, check=False,
    )  # fmt: skip


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def assert_nothing_is_left() -> None:
    paths = Paths()
    assert list(marked_processes(paths.home)) == []
    mounts = Path("/proc/mounts").read_text()
    assert f" {paths.home}/" not in mounts
    assert f" {paths.run}/" not in mounts
    assert list(cgroups.ours()) == []
    assert "local.providers" not in output("ps", "-eo", "args")
    links = output("ip", "-o", "link")
    assert not any(name in links for name in ("llm0", "llm-pods"))
    tables = output("nft", "list", "tables")
    assert not any(name in tables for name in ("llm-stack", "kube-proxy"))
    for table in ("filter", "nat", "mangle"):
        rules = output("iptables", "-t", table, "-S")
        assert not any(name in rules for name in ("KUBE-", "CNI-", "llm-stack"))
    assert not paths.run.exists()
    assert not paths.cluster.exists()
    assert not paths.pulumi.exists()


def test_down_leaves_nothing_and_finds_nothing_to_do_when_called_again() -> None:
    for _ in range(2):
        done = local("down")
        assert done.returncode == 0, done.stdout
        assert_nothing_is_left()


def test_down_of_another_checkout_clears_what_a_crash_left(tmp_path: Path) -> None:
    done = local("up", "--cluster-only")
    assert done.returncode == 0, done.stderr
    for process in marked_processes(Paths().home):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    shutil.copytree(ROOT / "local", tmp_path / "local")
    done = local("down", checkout=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_nothing_is_left()


def test_taken_port_is_named_before_anything_is_touched() -> None:
    with socket.create_server(("127.0.0.1", ETCD_CLIENT_PORT)):
        done = local("up")
    assert done.returncode == 1
    assert f"somebody listens on {ETCD_CLIENT_PORT}." in done.stderr + done.stdout
    assert "ss -ltnp" in done.stderr + done.stdout
    assert list(marked_processes(Paths().home)) == []


def test_full_disk_is_named_before_anything_is_touched(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", tmp_path], check=True)
    try:
        done = local("up", LLM_STACK_HOME=str(tmp_path))
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert done.returncode == 1
    assert f"{tmp_path} has 0.0 GB free" in done.stderr + done.stdout
    assert "LLM_STACK_HOME" in done.stderr + done.stdout
