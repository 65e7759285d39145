"""What the user has is used, where it fits."""

import json
from pathlib import Path

import pytest

from local.environment import shell
from local.toolchain import users


def command(directory: Path, name: str, says: str) -> Path:
    directory.mkdir(exist_ok=True)
    file = directory / name
    file.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "theirs"
    monkeypatch.setenv("PATH", f"{tmp_path / 'ours'}:{directory}:/usr/bin:/bin")
    return directory


@pytest.mark.parametrize(
    ("version", "complete", "used"),
    [
        ("v3.259.0", True, True),
        ("v3.300.1", True, True),
        ("v3.258.9", True, False),
        ("v4.0.0", True, False),
        ("v3.300.1", False, False),
        ("what?", True, False),
    ],
)
def test_pulumi_has_to_be_new_enough_and_complete(theirs: Path, version: str, complete: bool, used: bool) -> None:
    found = command(theirs, "pulumi", version)
    if complete:
        command(theirs, users.LANGUAGE_HOST, "")
    assert users.pulumi("3.259.0") == (found if used else None)


@pytest.mark.parametrize(
    ("version", "used"),
    [
        ("v1.36.3", True),
        ("v1.35.0", True),
        ("v1.37.9", True),
        ("v1.34.9", False),
        ("v1.20.2", False),
        ("v2.36.0", False),
    ],
)
def test_kubectl_has_to_be_near_the_servers_version(theirs: Path, tmp_path: Path, version: str, used: bool) -> None:
    ours = command(tmp_path / "ours", "kubectl", "nothing").parent
    found = command(theirs, "kubectl", json.dumps({"clientVersion": {"gitVersion": version}}))
    assert users.kubectl("1.36.3", ours) == (found if used else None)


def test_without_any_there_is_none(theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(theirs))
    assert users.pulumi("3.259.0") is None
    assert users.kubectl("1.36.3", tmp_path / "ours") is None


def test_shell_keeps_the_contexts_of_the_users_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/ours:/home/me/my config")
    assert shell({"KUBECONFIG": "/ours", "A": "b c"}).splitlines() == [
        "export KUBECONFIG='/ours:/home/me/my config'",
        "export A='b c'",
    ]
