"""The shell environment in which `pulumi` works on the local stack: tools, plugins, backend, cluster."""

import os
import shlex
from importlib.metadata import version
from pathlib import Path

from local import project
from local.cluster.containerd import NAMESPACE
from local.cluster.layout import CLUSTER_DOMAIN, NODE_ADDRESS, POD_CIDR, SERVICE_CIDR, Layout
from local.paths import Paths
from local.plugins import PACKAGES, STAND_INS, Plugins
from local.plugins import provide as obtain
from local.screen import Screen
from local.toolchain import Tools

# The stack keeps no secret of anybody; an empty passphrase lets every checkout read the state of every other one.
PASSPHRASE = ""


def variables(paths: Paths, tools: Tools, plugins: Plugins) -> dict[str, str]:
    """Every variable that differs from the caller's environment."""
    path = [str(tools.bin), str(project.ENVIRONMENT / "bin"), os.environ.get("PATH", os.defpath)]
    if plugins.stand_ins:
        path.insert(1, str(paths.run / "plugins"))
    layout = Layout(paths)
    return {
        **without_proxy(),
        "PATH": os.pathsep.join(path),
        "KUBECONFIG": str(layout.kubeconfig()),
        "PULUMI_HOME": str(plugins.home),
        "PULUMI_BACKEND_URL": f"file://{paths.pulumi}",
        "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        # What the stand-ins need to know.
        "LLM_STACK_PYTHON": str(project.PYTHON),
        "LLM_STACK_PULUMI_PYTHON_EXEC": str(tools.pulumi_python_exec),
        "LLM_STACK_HELM": str(tools.helm),
        # For the stand-in of the Docker plugin, and for `buildctl` and `ctr` in the user's shell.
        "BUILDKIT_HOST": f"unix://{layout.buildkit_socket}",
        "CONTAINERD_ADDRESS": str(layout.containerd_socket),
        "CONTAINERD_NAMESPACE": NAMESPACE,
    }


def provide(paths: Paths, tools: Tools, screen: Screen) -> dict[str, str]:
    """Gets the plugins, or links what stands in for them; every variable that differs from the caller's environment."""
    with screen.step("Pulumi plugins") as step:
        wanted = {name: version(package) for name, package in PACKAGES.items()}
        found = obtain(paths.cache / "pulumi", tools, wanted, step)
        link_stand_ins(paths, found)
        step.done(
            f"stand-ins of this project serve for {', '.join(found.stand_ins)}" if found.stand_ins else "official"
        )
    return variables(paths, tools, found)


def without_proxy() -> dict[str, str]:
    """The variables that keep a proxy of the user's out of the way between the parts of the cluster."""
    inside = f"localhost,127.0.0.1,{NODE_ADDRESS},{POD_CIDR},{SERVICE_CIDR},.svc,.{CLUSTER_DOMAIN}"
    said = {name: os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")}
    return {name: value if inside in value else ",".join(filter(None, (value, inside))) for name, value in said.items()}


def link_stand_ins(paths: Paths, plugins: Plugins) -> None:
    """Puts exactly the stand-ins that are needed on the path, so that an official plugin is never hidden."""
    directory = paths.run / "plugins"
    directory.mkdir(parents=True, exist_ok=True)
    for link in directory.iterdir():
        link.unlink()
    for name in plugins.stand_ins:
        (directory / name).symlink_to(STAND_INS / name)


def shell(variables: dict[str, str]) -> str:
    """The variables as lines for `eval`; the contexts of the user's own kubeconfig stay reachable, for stacks that name one."""
    ours = variables["KUBECONFIG"]
    users = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    files = dict.fromkeys([ours, *filter(None, users.split(os.pathsep))])
    exported = {**variables, "KUBECONFIG": os.pathsep.join(files)}
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in exported.items())
