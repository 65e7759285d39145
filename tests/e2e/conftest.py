"""The running cluster of `python -m local up`."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pulumi import automation

from local.cluster.command import Kubectl
from local.cluster.layout import Layout
from local.paths import Paths
from local.project import ROOT

PROGRAM = Path(__file__).parent / "program"
Resources = list[dict[str, Any]]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The variables of `python -m local env`."""
    lines = subprocess.run(
        ["bash", "-c", f'eval "$({sys.executable} -m local env 2>/dev/null)" && env -0'],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return dict(line.split("=", 1) for line in lines.split("\0") if "=" in line)


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    paths = Paths()
    return Kubectl(paths.cache / "bin" / "kubectl", Layout(paths).kubeconfig())


class Project:
    """A project of its own in a backend of its own; what it declares is given to each call."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._directory = directory
        self._events: list[automation.EngineEvent] = []
        self.state = directory / "state"
        self.state.mkdir()
        for name in ("Pulumi.yaml", "__main__.py"):
            shutil.copy(PROGRAM / name, directory)
        self._declare([])
        self._stack = automation.create_stack(
            stack_name="test",
            work_dir=str(directory),
            opts=automation.LocalWorkspaceOptions(
                pulumi_command=automation.PulumiCommand(root=str(Paths().cache)),
                env_vars={**environment, "PULUMI_BACKEND_URL": f"file://{self.state}"},
            ),
        )

    def up(self, resources: Resources) -> dict[str, int]:
        """Counts of the operations, `same` left out."""
        self._declare(resources)
        return _counts(self._stack.up(on_event=self._events.append, color="never").summary.resource_changes)

    def preview(self, resources: Resources) -> dict[str, int]:
        self._declare(resources)
        return _counts(self._stack.preview(on_event=self._events.append, color="never").change_summary)

    def refresh(self) -> dict[str, int]:
        self._events.clear()
        return _counts(self._stack.refresh(on_event=self._events.append, color="never").summary.resource_changes)

    def destroy(self) -> None:
        self._stack.destroy(color="never")

    def _declare(self, resources: Resources) -> None:
        self._events.clear()
        (self._directory / "resources.json").write_text(json.dumps(resources))

    @property
    def messages(self) -> str:
        return "\n".join(event.diagnostic_event.message for event in self._events if event.diagnostic_event)

    @property
    def differences(self) -> set[str]:
        """The properties that the engine showed as different."""
        found = (event.resource_pre_event or event.res_outputs_event for event in self._events)
        return {path for one in found if one for path in one.metadata.detailed_diff or {}}


def _counts(changes: Mapping[Any, int] | None) -> dict[str, int]:
    named = {str(getattr(name, "value", name)): count for name, count in (changes or {}).items()}
    return {name: count for name, count in named.items() if name != "same"}


@pytest.fixture
def project(tmp_path: Path, environment: dict[str, str]) -> Iterator[Project]:
    made = Project(tmp_path, environment)
    yield made
    made.destroy()
