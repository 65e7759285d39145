"""Which of Pulumi's plugins are stood in for: only those that cannot be had."""

from pathlib import Path

import pytest

from local import plugins
from local.environment import link_stand_ins
from local.paths import Paths
from local.screen import Step
from local.toolchain import Tools
from local.toolchain.users import LANGUAGE_HOST
from tests.local.conftest import Site

VERSIONS = {"kubernetes": "4.34.2", "docker": "5.2.0"}
ALL = ("pulumi-resource-kubernetes", "pulumi-resource-docker", "pulumi-language-python")


def command(file: Path, script: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """A pulumi without a language host that can install no plugin, a user without plugins, a host without Docker."""
    command(tmp_path / "pulumi" / "pulumi", "exit 1")
    monkeypatch.setattr(plugins, "PUBLISHER", "http://127.0.0.1:1")
    monkeypatch.setattr(plugins, "REGISTRY", "127.0.0.1:1")
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "theirs"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    command(tmp_path / "bin" / "docker", "exit 1")
    return Tools(tmp_path / "cache", {"pulumi": tmp_path / "pulumi"})


def stand_ins(tmp_path: Path, tools: Tools) -> tuple[str, ...]:
    return plugins.provide(tmp_path / "home", tools, VERSIONS, Step("Plugins")).stand_ins


def test_all_are_stood_in_for_where_none_can_be_had(tmp_path: Path, tools: Tools) -> None:
    assert stand_ins(tmp_path, tools) == ALL


def test_users_plugin_of_the_right_version_is_used(tmp_path: Path, tools: Tools) -> None:
    (tmp_path / "theirs" / "plugins" / "resource-kubernetes-v4.34.2").mkdir(parents=True)
    (tmp_path / "theirs" / "plugins" / "resource-docker-v5.1.0").mkdir()
    assert stand_ins(tmp_path, tools) == ALL[1:]
    assert (tmp_path / "home" / "plugins" / "resource-kubernetes-v4.34.2").is_dir()


def test_publishers_plugin_is_installed_and_language_host_comes_with_pulumi(
    tmp_path: Path, tools: Tools, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "PUBLISHER", site.url)
    site.files["/"] = b"here"
    command(tmp_path / "pulumi" / "pulumi", '[ "$*" = "plugin install resource kubernetes 4.34.2" ]')
    command(tmp_path / "pulumi" / LANGUAGE_HOST, "")
    assert stand_ins(tmp_path, tools) == ("pulumi-resource-docker",)


@pytest.mark.parametrize(("engine", "registry"), [(True, True), (True, False), (False, True)])
def test_official_docker_plugin_needs_an_engine_and_a_registry(
    tmp_path: Path, tools: Tools, site: Site, monkeypatch: pytest.MonkeyPatch, engine: bool, registry: bool
) -> None:
    (tmp_path / "theirs" / "plugins" / "resource-docker-v5.2.0").mkdir(parents=True)
    if engine:
        command(tmp_path / "bin" / "docker", "exit 0")
    if registry:
        monkeypatch.setattr(plugins, "REGISTRY", site.url.removeprefix("http://"))
        site.files["/v2/"] = b"{}"
    assert ("pulumi-resource-docker" not in stand_ins(tmp_path, tools)) is (engine and registry)


def test_exactly_the_stand_ins_that_are_needed_are_on_the_path(tmp_path: Path) -> None:
    paths = Paths(home=tmp_path / "home", run=tmp_path / "run")
    for needed in (ALL, ALL[:1], ()):
        link_stand_ins(paths, plugins.Plugins(tmp_path, needed))
        assert {link.name for link in (paths.run / "plugins").iterdir()} == set(needed)
