"""The control groups under which every pod and every build step runs."""

import contextlib
from pathlib import Path

from local.cluster.layout import CGROUP

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = "cgroup.controllers"  # only version 2 of control groups has this file


def create() -> None:
    """Makes our group in every hierarchy: the kubelet wants the root of its pods to be there, with every controller."""
    if (ROOT / CONTROLLERS).exists():
        for controller in (ROOT / CONTROLLERS).read_text().split():
            with contextlib.suppress(OSError):  # the kernel, or the container that we run in, keeps some for itself
                (ROOT / "cgroup.subtree_control").write_text(f"+{controller}")
    for hierarchy in _hierarchies():
        (hierarchy / CGROUP).mkdir(exist_ok=True)


def ours() -> list[Path]:
    """Our group in every hierarchy that has it."""
    return [hierarchy / CGROUP for hierarchy in _hierarchies() if (hierarchy / CGROUP).is_dir()]


def remove(cgroup: Path) -> None:
    """A group goes when its children are gone; the kernel's own files in it need no removing."""
    for child in cgroup.iterdir():
        if child.is_dir():
            remove(child)
    cgroup.rmdir()


def _hierarchies() -> list[Path]:
    """Version 2 mounts one hierarchy; version 1 one per controller, some under two names."""
    if (ROOT / CONTROLLERS).exists():
        return [ROOT]
    return [
        entry
        for entry in ROOT.iterdir()
        if entry.is_dir() and not entry.is_symlink() and (entry / "cgroup.procs").exists()
    ]
