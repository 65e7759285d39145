"""Taking the cluster off the host: processes, mounts, cgroups, network, and what its parts wrote outside their directories.

Nothing here relies on a record of what was started: it looks at the host, so it also clears what a crash or another
checkout left, and a second call finds nothing to do.
"""

import shutil
from pathlib import Path

from local import state
from local.cluster import cgroups, network
from local.cluster.command import succeeds
from local.cluster.daemon import end, marked_processes
from local.cluster.layout import Layout
from local.screen import LocalError, Step

POD_STOP_SECONDS = 3.0  # nobody waits for these pods any more; enough for an orderly end of a file being written
UNMOUNT_ROUNDS = 3  # a mount under a mount may need the other to go first
# The kubelet and the CNI library write here whatever their directories are set to; an entry of ours names our directories.
CNI_RESULTS = Path("/var/lib/cni/results")
CONTAINER_LOG_LINKS = Path("/var/log/containers")
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")


def tear_down(layout: Layout, step: Step) -> None:
    """Removes everything that runs or is mounted; images, caches and weights stay."""
    step.report("stopping the kubelet")
    end([process.pid for process in marked_processes(layout.paths.home) if process.name == "kubelet"])
    step.report("stopping pods")
    end(_pod_processes(), POD_STOP_SECONDS)
    step.report("stopping daemons")
    end([process.pid for process in marked_processes(layout.paths.home)])
    step.report("unmounting")
    _unmount(layout)
    step.report("removing network and cgroups")
    network.tear_down(layout)
    for cgroup in cgroups.ours():
        cgroups.remove(cgroup)
    _remove_traces(layout)
    state.forget_local(layout.paths.pulumi)
    for directory in (layout.state, layout.paths.run):
        if directory.exists():
            shutil.rmtree(directory)


def _pod_processes() -> list[int]:
    files = (file for cgroup in cgroups.ours() for file in cgroup.rglob("cgroup.procs"))
    return sorted({int(pid) for file in files for pid in file.read_text().split()})


def _mounts(layout: Layout) -> list[str]:
    ours = tuple(f"{directory}/" for directory in (layout.paths.run, *layout.paths.owned))
    points = [
        line.split()[1].encode().decode("unicode_escape") for line in Path("/proc/mounts").read_text().splitlines()
    ]
    return [point for point in reversed(points) if point.startswith(ours)]


def _unmount(layout: Layout) -> None:
    for _ in range(UNMOUNT_ROUNDS):
        for point in _mounts(layout):
            succeeds(["umount", point]) or succeeds(["umount", "--lazy", point])
    if left := _mounts(layout):
        raise LocalError(
            f"{left[0]} cannot be unmounted",
            f"`fuser -vm {left[0]}` shows who holds it; end that, then run `make down` again.",
        )


def _remove_traces(layout: Layout) -> None:
    for result in _entries(CNI_RESULTS):
        if f'"netns":"{layout.paths.run}/' in result.read_text():
            result.unlink()
    for link in _entries(CONTAINER_LOG_LINKS):
        if link.is_symlink() and str(link.readlink()).startswith(f"{layout.state}/"):
            link.unlink()
    for file in _entries(DEVICE_PLUGINS):
        if file.is_socket() or file.name == "kubelet_internal_checkpoint":
            file.unlink()
    for directory in (CNI_RESULTS, CNI_RESULTS.parent, CONTAINER_LOG_LINKS, DEVICE_PLUGINS, DEVICE_PLUGINS.parent):
        if directory.is_dir() and not _entries(directory):
            directory.rmdir()


def _entries(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []
