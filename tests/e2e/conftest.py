"""The running cluster of `python -m local up`."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pulumi import automation

from local.cluster.command import Kubectl
from local.cluster.layout import Layout
from local.paths import Paths
from local.project import ROOT
from local.stack import LocalStack


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


@pytest.fixture(scope="session")
def stack(environment: dict[str, str]) -> LocalStack:
    return LocalStack(Paths().cache, environment)


Program = Callable[[], None]


class Project:
    """A stack of its own for an inline program, in a backend of its own."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.events: list[automation.EngineEvent] = []
        (directory / "state").mkdir()
        variables = {**environment, "PULUMI_BACKEND_URL": f"file://{directory / 'state'}"}
        self._stack = automation.create_stack(
            stack_name="test",
            project_name="t-stand-in",
            program=lambda: None,
            work_dir=None,
            opts=automation.LocalWorkspaceOptions(
                pulumi_command=automation.PulumiCommand(root=str(Paths().cache)), env_vars=variables
            ),
        )
        self.state_file = directory / "state"

    def up(self, program: Program) -> dict[str, int]:
        """Counts of the operations, `same` left out."""
        self.events.clear()
        result = self._stack.up(program=program, on_event=self.events.append, color="never")
        return {name: count for name, count in (result.summary.resource_changes or {}).items() if name != "same"}

    def preview(self, program: Program) -> dict[str, int]:
        self.events.clear()
        result = self._stack.preview(program=program, on_event=self.events.append, color="never")
        return {str(getattr(name, "value", name)): count for name, count in result.change_summary.items() if name != "same"}

    def refresh(self) -> dict[str, int]:
        self.events.clear()
        result = self._stack.refresh(on_event=self.events.append, color="never")
        return {name: count for name, count in (result.summary.resource_changes or {}).items() if name != "same"}

    def destroy(self) -> None:
        self._stack.destroy(color="never")

    @property
    def outputs(self) -> dict[str, object]:
        return {name: output.value for name, output in self._stack.outputs().items()}

    @property
    def messages(self) -> str:
        return "\n".join(event.diagnostic_event.message for event in self.events if event.diagnostic_event)

    @property
    def differences(self) -> set[str]:
        """The properties that the engine showed as different."""
        found = (event.resource_pre_event or event.res_outputs_event for event in self.events)
        return {path for one in found if one for path in one.metadata.detailed_diff or {}}


@pytest.fixture
def project(tmp_path: Path, environment: dict[str, str]) -> Iterator[Project]:
    # The program runs in this process and talks to the engine's plugins as any other.
    before = os.environ.copy()
    os.environ.update(environment)
    made = Project(tmp_path, environment)
    yield made
    made.destroy()
    os.environ.clear()
    os.environ.update(before)
