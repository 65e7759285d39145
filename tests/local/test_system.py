"""What the machine has to bring: one list of everything that is missing, before anything is touched."""

import io
import os
import platform
import shutil
import socket
from pathlib import Path

import pytest

from local.cluster import preflight
from local.cluster.layout import Layout
from local.paths import Paths
from local.screen import LocalError, Screen
from local.toolchain import debian, require_system


def test_without_root_on_another_system_everything_is_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(debian, "CNI_DIRECTORIES", ())
    with pytest.raises(LocalError) as missing:
        require_system(Screen(io.StringIO()))
    said = str(missing.value)
    for words in ("this is Darwin", "be root", "runc", "nftables", "containernetworking-plugins", "(Debian's names)"):
        assert words in said
    assert "deploy to a cluster of yours" in said


def test_full_disk_and_taken_ports_are_told_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = Paths(home=tmp_path, run=tmp_path / "run")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        taken = (one.getsockname()[1], other.getsockname()[1])
        monkeypatch.setattr(preflight, "FIRST_START_BYTES", 10**18)
        monkeypatch.setattr(preflight, "LOOPBACK_PORTS", taken)
        with pytest.raises(LocalError) as wrong:
            preflight.check(Layout(paths))
    said = str(wrong.value)
    assert "GB are needed" in said
    assert "LLM_STACK_HOME" in said
    assert f"{taken[0]}, {taken[1]}" in said
    assert "ss -ltnp" in said
