"""The running cluster of `python3 -m local up`."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pulumi import automation

from infra.workload import NAME_LABEL
from local.cluster.command import Kubectl
from local.cluster.layout import Layout
from local.paths import Paths
from local.project import ROOT

PROGRAM = Path(__file__).parent / "program"
NAMESPACE = "t-stand-in"  # of everything that the tests of the stand-ins make
Resources = list[dict[str, Any]]
UPDATE_SECONDS = 300.0  # longer than any Deployment here may take


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The variables of `python3 -m local env`."""
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

    def state_of(self, name: str) -> dict[str, Any]:
        """What the state says of a resource."""
        resources = (self._stack.export_stack().deployment or {})["resources"]
        (found,) = (one for one in resources if one["urn"].endswith(f"::{name}"))
        return dict(found)

    def steps(self, name: str) -> list[str]:
        """The engine's operations on a resource in the last call, in order."""
        begun = (event.resource_pre_event for event in self._events)
        return [one.metadata.op.value for one in begun if one and one.metadata.urn.endswith(f"::{name}")]

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
def project(tmp_path: Path, environment: dict[str, str], kubectl: Kubectl) -> Iterator[Project]:
    made = Project(tmp_path, environment)
    yield made
    try:
        made.destroy()
    finally:  # a test that failed half-way is the only one to fail
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")


class PulumiFailedError(Exception):
    """All that a failed command printed."""


class Deployed:
    """A stack of this project, by default `local`, through a user's own commands."""

    def __init__(self, environment: dict[str, str], kubectl: Kubectl, directory: Path) -> None:
        self._environment = environment
        self._directory = directory
        self.kubectl = kubectl
        outputs = json.loads(self.pulumi("stack", "output", "--json"))
        self.endpoint_url: str = outputs["endpoint_url"]
        self.namespace: str = outputs["namespace"]

    def pulumi(self, *arguments: str, stack: str = "local", config: Mapping[str, object] | None = None) -> str:
        """What a command prints; ``config`` has the keys, joined by dots, that differ from the stack's file.

        Raises:
            PulumiFailedError: the command failed.
        """
        done = subprocess.run(
            ["pulumi", *arguments, "--stack", stack, "--non-interactive", *self._config_file(stack, config or {})],
            cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=UPDATE_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise PulumiFailedError(done.stdout + done.stderr)
        return done.stdout

    def ready_pods(self) -> list[str]:
        """The addresses of the model's pods that serve."""
        pods = json.loads(
            self.kubectl("get", "pods", "-n", self.namespace, "-l", f"{NAME_LABEL}=llm-server", "-o", "json")
        )
        return [pod["status"]["podIP"] for pod in pods["items"] if _serves(pod)]

    def _config_file(self, stack: str, config: Mapping[str, object]) -> list[str]:
        if not config:
            return []
        content = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())
        for path, value in config.items():
            first, *rest = path.split(".")
            holder, last = content["config"], f"llm-stack:{first}"
            for name in rest:
                holder, last = holder[last], name
            holder[last] = value
        file = self._directory / f"Pulumi.{stack}.yaml"
        file.write_text(yaml.safe_dump(content))
        return ["--config-file", str(file)]


def _serves(pod: dict[str, Any]) -> bool:
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))
    return ready and "deletionTimestamp" not in pod["metadata"]


@pytest.fixture(scope="module")
def deployed(environment: dict[str, str], kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return Deployed(environment, kubectl, tmp_path_factory.mktemp("config"))
