"""Pulumi's plugins: the official ones where they are or can be had, and which ones our stand-ins replace."""

import os
import shutil
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from local.screen import Step
from local.toolchain import Tools
from local.toolchain.users import LANGUAGE_HOST

STAND_INS = Path(__file__).parent / "providers" / "bin"
PUBLISHER = "https://get.pulumi.com"
ANSWER_SECONDS = 3.0
INSTALL_SECONDS = 600.0  # 40 MB each
DOCKER = "pulumi-resource-docker"
REGISTRY = "localhost:5001"  # of Pulumi.local.yaml
PACKAGES = {
    "kubernetes": "pulumi-kubernetes",
    "docker": "pulumi-docker",
}  # plugin -> the Python package whose version it has


@dataclass(frozen=True)
class Plugins:
    """Which of Pulumi's plugins are stood in for, by the names of their executables."""

    home: Path
    stand_ins: tuple[str, ...]


def provide(home: Path, tools: Tools, versions: dict[str, str], step: Step) -> Plugins:
    """Finds each plugin of ``versions`` (name -> version), fetching what the publisher gives.

    ``home`` becomes PULUMI_HOME: plugins are looked for there and in the user's own Pulumi directory.
    """
    (home / "plugins").mkdir(parents=True, exist_ok=True)
    reachable: bool | None = None
    missing = []
    for name, version in versions.items():
        directory = f"resource-{name}-v{version}"
        if (home / "plugins" / directory).exists():
            continue
        users = Path(os.environ.get("PULUMI_HOME", Path.home() / ".pulumi")) / "plugins" / directory
        if users.is_dir():
            (home / "plugins" / directory).symlink_to(users)
            continue
        reachable = _answers(PUBLISHER) if reachable is None else reachable
        step.report(f"installing the {name} plugin {version}")
        if not (reachable and _install(home, tools, name, version)):
            missing.append(f"pulumi-resource-{name}")
    # The docker plugin needs an engine that builds and a registry that it pushes to and the node pulls from; without
    # them the cluster's own BuildKit builds straight into its containerd.
    if DOCKER not in missing and not (_docker_engine() and _answers(f"http://{REGISTRY}/v2/")):
        missing.append(DOCKER)
    if not (tools.pulumi.resolve().parent / LANGUAGE_HOST).exists():
        missing.append(LANGUAGE_HOST)
    return Plugins(home, tuple(missing))


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=ANSWER_SECONDS):
            return True
    except OSError:
        return False


def _install(home: Path, tools: Tools, name: str, version: str) -> bool:
    command = [str(tools.pulumi), "plugin", "install", "resource", name, version]
    environment = {**os.environ, "PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        return (
            subprocess.run(
                command, env=environment, capture_output=True, timeout=INSTALL_SECONDS, check=False
            ).returncode
            == 0
        )
    except subprocess.TimeoutExpired:
        return False


def _docker_engine() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "version"], capture_output=True, check=False).returncode == 0
