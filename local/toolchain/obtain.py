"""All tools, each from where it can be had, kept under one directory by version and content."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from local.paths import Paths
from local.screen import LocalError, Screen, duration
from local.toolchain import debian, users
from local.toolchain.build import build
from local.toolchain.download import Downloader, UnavailableError, WrongContentError
from local.toolchain.table import TOOLS, Tool

GO_VERSION = (1, 21)  # the first that fetches the toolchain which a go.mod names
# On the user's path below <cache>/bin.
SHOWN = {
    "pulumi": "pulumi",
    "buildctl": "buildkit",
    "ctr": "kube",
    "helm": "helm",
    "promtool": "prometheus",
    "actionlint": "actionlint",
}


@dataclass(frozen=True)
class Tools:
    """Where everything is."""

    cache: Path
    directories: dict[str, Path]

    @property
    def bin(self) -> Path:
        """What belongs on a user's path."""
        return self.cache / "bin"

    def _binary(self, tool: str, name: str) -> Path:
        return self.directories[tool] / name

    @property
    def kubernetes(self) -> Path:
        return self._binary("kube", "kube")

    @property
    def kubectl(self) -> Path:
        return self.bin / "kubectl"

    @property
    def coredns(self) -> Path:
        return self._binary("kube", "coredns")

    @property
    def fake_gpus(self) -> Path:
        return self._binary("kube", "fakegpu")

    @property
    def network_policies(self) -> Path:
        return self._binary("kube", "netpolicy")

    @property
    def pause(self) -> Path:
        return self._binary("kube", "pause")

    @property
    def containerd(self) -> Path:
        return self._binary("kube", "containerd")

    @property
    def ctr(self) -> Path:
        return self._binary("kube", "ctr")

    @property
    def cni_plugins(self) -> Path:
        return debian.cni_plugins()

    @property
    def buildkitd(self) -> Path:
        return self._binary("buildkit", "buildkitd")

    @property
    def pulumi(self) -> Path:
        return self._binary("pulumi", "pulumi")

    @property
    def pulumi_python_exec(self) -> Path:
        return self._binary("pulumi", "share") / "python" / "pulumi-language-python-exec"

    @property
    def keda_operator(self) -> Path:
        return self._binary("keda", "operator")

    @property
    def keda_adapter(self) -> Path:
        return self._binary("keda", "adapter")

    @property
    def keda_webhooks(self) -> Path:
        return self._binary("keda", "webhooks")

    @property
    def keda_share(self) -> Path:
        return self._binary("keda", "share")

    @property
    def prometheus_operator(self) -> Path:
        return self._binary("prometheus-operator", "operator")

    @property
    def prometheus_config_reloader(self) -> Path:
        return self._binary("prometheus-operator", "prometheus-config-reloader")

    @property
    def prometheus_operator_share(self) -> Path:
        return self._binary("prometheus-operator", "share")

    @property
    def gateway_api_share(self) -> Path:
        return self._binary("gateway-api", "share")

    @property
    def prometheus(self) -> Path:
        return self._binary("prometheus", "prometheus")

    @property
    def promtool(self) -> Path:
        return self._binary("prometheus", "promtool")

    @property
    def kube_state_metrics(self) -> Path:
        return self._binary("kube-state-metrics", "kube-state-metrics")

    @property
    def kube_state_metrics_share(self) -> Path:
        return self._binary("kube-state-metrics", "share")

    @property
    def helm(self) -> Path:
        return self._binary("helm", "helm")


def obtain(paths: Paths, screen: Screen, names: Collection[str] = ()) -> Tools:
    """Makes sure that the tools of ``names`` are there, or all that `up` needs; where they are, this takes no time.

    Raises:
        LocalError: something is missing that cannot be had; what has been made so far is kept.
    """
    directories = {tool.name: _directory(paths.cache, tool) for tool in TOOLS}
    versions = {tool.name: tool.version for tool in TOOLS}
    if users_pulumi := users.pulumi(versions["pulumi"]):
        directories["pulumi"] = users_pulumi.resolve().parent
    wanted = [tool for tool in TOOLS if (tool.name in names if names else not tool.development)]
    if _missing(wanted, directories):
        paths.cache.mkdir(parents=True, exist_ok=True)
        with (paths.cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another command may be at it
            if missing := _missing(wanted, directories):
                _make(missing, directories, paths.cache, screen)
                _trim(paths.cache)
    tools = Tools(paths.cache, directories)
    _link(tools, users.kubectl(versions["kube"], tools.bin) or tools.kubernetes)
    return tools


def _missing(wanted: list[Tool], directories: dict[str, Path]) -> list[Tool]:
    return [tool for tool in wanted if not directories[tool.name].exists()]


def _make(missing: list[Tool], directories: dict[str, Path], cache: Path, screen: Screen) -> None:
    total = sum(tool.build_seconds for tool in missing)
    names = ", ".join(f"{tool.name} {tool.version}" for tool in missing)
    screen.say(
        f"Tools to get: {names}. Downloaded where their publishers answer; else built, {duration(total)} in all on two cores."
    )
    downloader = Downloader()
    for tool in missing:
        with screen.step(f"{tool.name} {tool.version}", tool.build_seconds) as step:
            target = directories[tool.name]
            partial = target.with_name(f"{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            came = _download(tool, downloader, partial, cache / "downloads", step.report)
            if not came:
                build(tool, _go(), partial, cache / "go", step.report)
            partial.rename(target)
            step.done("downloaded" if came else "built")
            for old in target.parent.glob(f"{tool.name}-*"):
                if old != target and re.fullmatch(rf"{re.escape(tool.name)}-[0-9a-f]{{16}}", old.name):
                    shutil.rmtree(old)


def _trim(cache: Path) -> None:
    """Go's caches are ten times the size of what they were good for; every tool that they made is kept."""
    shutil.rmtree(cache / "go", ignore_errors=True)
    shutil.rmtree(cache / "downloads", ignore_errors=True)


def _download(tool: Tool, downloader: Downloader, target: Path, cache: Path, report: Callable[[str], None]) -> bool:
    if tool.download is None:
        return False
    try:
        downloader.fetch(tool.download, tool.version, target, cache, report)
    except UnavailableError:
        return False
    except WrongContentError as error:
        report(f"{error}; building instead")
        return False
    return True


def _directory(cache: Path, tool: Tool) -> Path:
    """Named by everything that goes into a build: pins, sources of ours, flags, kind of machine."""
    content = hashlib.sha256(repr((tool, os.uname().machine)).encode())
    for file in sorted(path for path in tool.sources.rglob("*") if path.is_file()):
        content.update(file.read_bytes())
    return cache / "tools" / f"{tool.name}-{content.hexdigest()[:16]}"


def _link(tools: Tools, kubectl: Path) -> None:
    """The commands for the user, and for ourselves."""
    tools.bin.mkdir(parents=True, exist_ok=True)
    wanted = {name: tools.directories[tool] / name for name, tool in SHOWN.items()}
    there = {name: target for name, target in {**wanted, "kubectl": kubectl}.items() if target.exists()}
    for name, target in there.items():
        link = tools.bin / name
        if not (link.is_symlink() and link.readlink() == target):
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def _go() -> Path:
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is not None:
        said = subprocess.run([found, "env", "GOVERSION"], cwd="/", capture_output=True, text=True, check=False).stdout
        numbers = re.match(r"go(\d+)\.(\d+)", said)
        if numbers and (int(numbers[1]), int(numbers[2])) >= GO_VERSION:
            return Path(found)
    raise LocalError(
        f"Go {GO_VERSION[0]}.{GO_VERSION[1]} or newer is needed to build the tools that cannot be downloaded.",
        "Install it from https://go.dev/dl/ (it unpacks to /usr/local/go), then run the command again.",
    )
