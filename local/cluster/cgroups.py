"""The control groups under which every pod and every build step runs."""

from pathlib import Path

from local.cluster.layout import CGROUP

ROOT = Path("/sys/fs/cgroup")


def create() -> None:
    """Makes our group in every hierarchy: the kubelet wants the root of its pods to be there."""
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
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    return [
        entry
        for entry in ROOT.iterdir()
        if entry.is_dir() and not entry.is_symlink() and (entry / "cgroup.procs").exists()
    ]
