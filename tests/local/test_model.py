"""The weights of the local stack: from a hub by a pinned revision, checked and resumed; random ones where no hub answers."""

import hashlib
import json
from pathlib import Path

import pytest

from local import model
from local.paths import Paths
from local.screen import LocalError, Step
from tests.local.conftest import Site

REVISION = "c0ffee" * 6 + "c0ff"
WEIGHTS = bytes(range(256)) * 128
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS}
RESOLVED = f"/{model.REPOSITORY}/resolve/{REVISION}"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(home=tmp_path / "home", run=tmp_path / "run")
    made.create()
    return made


@pytest.fixture
def hub(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv(model.HUB_VARIABLE, site.url)
    siblings = [
        {"rfilename": name, "size": len(content), "lfs": {"sha256": hashlib.sha256(content).hexdigest()}}
        for name, content in FILES.items()
    ]
    other = [{"rfilename": name, "size": 1} for name in ("README.md", "onnx/model.json", "flax_model.msgpack")]
    facts = {"sha": REVISION, "siblings": siblings + other}
    site.files = {f"/api/models/{model.REPOSITORY}": json.dumps(facts).encode()}
    site.files |= {f"{RESOLVED}/{name}": content for name, content in FILES.items()}
    return site


def test_hub_is_asked_once_and_the_revision_is_kept(hub: Site, paths: Paths) -> None:
    weights = model.provide(paths, Step("Model"))
    assert (weights.repository, weights.revision, weights.random) == (model.REPOSITORY, REVISION, False)
    assert {file.name: file.read_bytes() for file in weights.directory.iterdir()} == FILES
    asked = len(hub.asked)
    assert model.provide(paths, Step("Model")) == weights
    assert len(hub.asked) == asked


def test_broken_download_goes_on_where_it_stopped_also_at_the_next_call(hub: Site, paths: Paths) -> None:
    hub.cut[f"{RESOLVED}/model.safetensors"] = [5000, 6000, 7000]
    with pytest.raises(LocalError, match="goes on where it stopped"):
        model.provide(paths, Step("Model"))
    assert model.recorded(paths) is None
    weights = model.provide(paths, Step("Model"))
    wanted = [wanted for path, wanted in hub.asked if path.endswith("model.safetensors")]
    assert wanted == ["", "bytes=5000-", "bytes=11000-", "bytes=18000-"]
    assert weights.revision == REVISION
    assert (weights.directory / "model.safetensors").read_bytes() == WEIGHTS


def test_altered_file_is_refused_and_deleted(hub: Site, paths: Paths) -> None:
    hub.files[f"{RESOLVED}/model.safetensors"] = b"x" * len(WEIGHTS)
    with pytest.raises(LocalError, match="wrong size or checksum"):
        model.provide(paths, Step("Model"))
    assert model.recorded(paths) is None
    assert list(paths.weights.rglob("model.safetensors*")) == []


def test_without_a_hub_the_weights_are_random_and_the_same_every_time(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(model.HUB_VARIABLE, "http://127.0.0.1:1")
    weights = model.provide(paths, Step("Model"))
    assert weights.random
    before = (weights.directory / "model.safetensors").read_bytes()
    (paths.weights / model.RECORD).unlink()
    assert model.provide(paths, Step("Model")) == weights
    assert (weights.directory / "model.safetensors").read_bytes() == before


def test_served_directory_follows_the_weights(paths: Paths, tmp_path: Path) -> None:
    for name in ("one", "two"):
        weights = model.Weights(tmp_path / name, name, "")
        model.serve(paths, weights)
        assert (paths.served_models / model.SERVED_NAME).readlink() == weights.directory
