"""The real engine without a cluster, for whoever previews."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from local import plugins, toolchain
from local.environment import link_stand_ins, variables
from local.paths import Paths
from local.preview import Preview, preview
from local.screen import Screen, Step

PreviewOf = Callable[[str, Path, Path | None], Preview]


@pytest.fixture
def preview_of(tmp_path: Path) -> PreviewOf:
    """Previews a stack of the project in a directory, with a file of settings for the policy pack."""
    paths = Paths(run=tmp_path / "run")
    tools = toolchain.obtain(paths, Screen(), ["pulumi", "helm"])
    wanted = {name: version(package) for name, package in plugins.PACKAGES.items()}
    found = plugins.provide(paths.cache / "pulumi", tools, wanted, Step("Plugins"))
    link_stand_ins(paths, found)
    environment = variables(paths, tools, found)
    return lambda stack, root, settings: preview(stack, tools.bin.parent, environment, settings, root)
