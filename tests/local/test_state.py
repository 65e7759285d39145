"""Pulumi's state: the local stack's dies with its cluster, and nobody else's is ever lost."""

import io
import json
from pathlib import Path

import pytest

from local import state
from local.cluster.cluster import Cluster
from local.paths import Paths
from local.screen import LocalError, Screen


def deploy(pulumi: Path, stack: str, resources: int) -> None:
    """The files that the engine's file backend leaves for a stack."""
    base = pulumi / ".pulumi"
    for folder in ("stacks", f"history/llm-stack/{stack}", f"locks/organization/llm-stack/{stack}"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    (base / "stacks" / "llm-stack").mkdir(exist_ok=True)
    checkpoint: dict[str, object] = {"checkpoint": {"latest": {"resources": [{}] * resources}}}
    for suffix in ("json", "json.bak"):
        (base / "stacks" / "llm-stack" / f"{stack}.{suffix}").write_text(json.dumps(checkpoint))
    (base / "history" / "llm-stack" / stack / f"{stack}-1.checkpoint.json").write_text("{}")


def test_local_state_goes_and_the_backend_with_it(tmp_path: Path) -> None:
    deploy(tmp_path / "pulumi", "local", 3)
    state.forget_local(tmp_path / "pulumi")
    assert not (tmp_path / "pulumi").exists()
    state.forget_local(tmp_path / "pulumi")


def test_state_of_other_stacks_stays(tmp_path: Path) -> None:
    for name, resources in (("local", 3), ("dev", 7), ("local-two", 1)):
        deploy(tmp_path, name, resources)
    before = {path for path in tmp_path.rglob("*") if "local" not in path.parts and not path.name.startswith("local.")}
    state.forget_local(tmp_path)
    assert state.others(tmp_path) == {"dev": 7, "local-two": 1}
    assert set(tmp_path.rglob("*")) == before


def test_purge_refuses_to_lose_the_state_of_another_cluster(tmp_path: Path) -> None:
    paths = Paths(home=tmp_path / "home", run=tmp_path / "run")
    paths.create()
    deploy(paths.pulumi, "dev", 7)
    with pytest.raises(LocalError, match=r"dev \(7 resources\)"):
        Cluster.down(paths, Screen(io.StringIO()), purge=True)
    assert state.others(paths.pulumi) == {"dev": 7}


def test_purge_leaves_what_is_somebody_elses(tmp_path: Path) -> None:
    paths = Paths(home=tmp_path / "disk", run=tmp_path / "run")
    paths.home.mkdir(mode=0o755)
    paths.create()
    assert paths.home.stat().st_mode & 0o777 == 0o755
    assert {directory.stat().st_mode & 0o777 for directory in paths.owned} == {0o700}
    (paths.home / "theirs").touch()
    paths.remove()
    assert [entry.name for entry in paths.home.iterdir()] == ["theirs"]
    (paths.home / "theirs").unlink()
    paths.remove()
    assert not paths.home.exists()
