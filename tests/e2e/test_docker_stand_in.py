"""The Docker stand-in on the cluster's BuildKit: what it builds is what the kubelet finds by digest."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pulumi.automation.errors import CommandError

from tests.e2e.conftest import Project, Resources
from tests.e2e.registry import PASSWORD, USER, Registry

pytestmark = pytest.mark.e2e

REPOSITORY = "localhost:5001/t-stand-in/image"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "Dockerfile").write_text("FROM scratch\nARG SAID=nothing\nLABEL said=$SAID\nCOPY . /\n")
    (directory / "kept").write_text("one")
    (directory / "ignored").write_text("one")
    (directory / ".dockerignore").write_text("ignored\nDockerfile\n.dockerignore\n")
    return directory


def image(context: Path, *, name: str = f"{REPOSITORY}:test", **options: Any) -> Resources:
    build = {"context": str(context), "dockerfile": str(context / "Dockerfile"), **options}
    return [{"type": "docker:index/image:Image", "name": "i", "properties": {"imageName": name, "build": build}}]


def digests(environment: dict[str, str]) -> set[str]:
    """Of the images that containerd has of the repository."""
    names = subprocess.run(
        ["ctr", "images", "list", "-q"], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    return {name.partition("@")[2] for name in names if name.startswith(f"{REPOSITORY}@sha256:")}


def built(project: Project) -> str:
    """The digest that the state has."""
    return str(project.state_of("i")["outputs"]["repoDigest"]).partition("@")[2]


def test_image_is_built_again_only_when_something_in_it_changed(
    project: Project, context: Path, environment: dict[str, str]
) -> None:
    assert project.preview(image(context)) == {"create": 2}
    assert project.up(image(context)) == {"create": 2}
    first = built(project)
    assert first in digests(environment)

    (context / "ignored").write_text("two")
    assert project.up(image(context)) == {}

    (context / "kept").write_text("two")
    assert project.preview(image(context)) == {"update": 1}
    assert "contextDigest" in project.differences
    assert built(project) == first
    assert project.up(image(context)) == {"update": 1}
    second = built(project)
    # Pods may still run from the one before.
    assert digests(environment) == {first, second}

    labelled = image(context, args={"SAID": "something"})
    assert project.up(labelled) == {"update": 1}
    third = built(project)
    assert digests(environment) == {second, third}

    # An image that somebody removed from the node is built again.
    subprocess.run(["ctr", "images", "remove", f"{REPOSITORY}@{third}"], env=environment, check=True)
    assert project.preview(labelled) == {"update": 1}
    assert project.up(labelled) == {"update": 1}
    assert third in digests(environment)


def test_failing_step_is_told_in_its_own_words(project: Project, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY missing /\n")
    with pytest.raises(CommandError):
        project.up(image(context))
    assert "missing" in project.messages
    assert "The build failed" in project.messages


def test_faults_are_told_in_the_preview(project: Project, context: Path) -> None:
    (context / "Dockerfile").unlink()
    with pytest.raises(CommandError):
        project.preview(image(context, name=REPOSITORY))
    assert f"there is no file {context}/Dockerfile" in project.messages
    assert f"'{REPOSITORY}' has no tag" in project.messages


def test_image_of_a_registry_is_pushed_with_its_password_and_known_by_the_digest_it_has_there(
    project: Project, context: Path
) -> None:
    with Registry() as registry:
        credentials = {"server": registry.host, "username": USER, "password": PASSWORD}
        (declared,) = image(context, name=f"{registry.host}/team/image:test")
        declared["properties"]["registry"] = credentials
        assert project.up([declared]) == {"create": 2}
        digest = project.state_of("i")["outputs"]["repoDigest"].partition("@")[2]
        manifest = json.loads(registry.manifests["team/image", digest])
        assert registry.manifests["team/image", "test"] == registry.manifests["team/image", digest]
        for part in (manifest["config"], *manifest["layers"]):
            assert part["digest"] in registry.blobs
        assert project.up([declared]) == {}


def test_registry_that_refuses_is_told_in_its_own_words(project: Project, context: Path) -> None:
    with Registry() as registry:
        with pytest.raises(CommandError):
            project.up(image(context, name=f"{registry.host}/team/image:test"))
        assert registry.manifests == {}
    assert "401 Unauthorized" in project.messages
