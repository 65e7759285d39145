"""The Debian image that the service's image starts from: pulled where a registry answers, else made with debootstrap."""

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from local.cluster import images
from local.cluster.containerd import Containerd
from local.screen import LocalError, Step

BASE_IMAGE = "docker.io/library/debian:bookworm-slim"
SUITE = "bookworm"
MIRROR_VARIABLE = "LLM_STACK_DEBIAN_MIRROR"
PULL_SECONDS = 120.0  # 30 MB; a registry that refuses says so at once, one that is silent costs this much, once
EXPECTED_SECONDS = 60.0
# Left by the package manager for its next run, which in an image never comes.
LEFTOVERS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale", "var/log")


def provide(ctr: Containerd, scratch: Path, step: Step) -> None:
    """Makes sure that containerd holds :data:`BASE_IMAGE`."""
    if BASE_IMAGE in ctr.images():
        return
    step.report("asking the registry")
    if ctr.pulls(BASE_IMAGE, PULL_SECONDS):
        return
    with tempfile.TemporaryDirectory(dir=scratch, prefix="debian-") as directory:
        root = Path(directory) / "root"
        _bootstrap(root, step)
        step.report("packing")
        with tempfile.TemporaryFile(dir=scratch) as layer:
            with tarfile.open(fileobj=layer, mode="w") as tar:
                tar.add(root, arcname=".")
            images.load(ctr, layer, names=(BASE_IMAGE,), entrypoint=(), user="", scratch=scratch)


def _bootstrap(root: Path, step: Step) -> None:
    mirror = os.environ.get(MIRROR_VARIABLE)  # debootstrap knows Debian's own
    command = ["debootstrap", "--variant=minbase", SUITE, str(root), *([mirror] if mirror else [])]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.strip())
            step.report(line.strip().removeprefix("I: ")[:60])
    if process.returncode != 0:
        said = lines[-1] if lines else "it said nothing"
        raise LocalError(
            f"debootstrap could not make a Debian {SUITE} from {mirror or 'its own mirror'}: {said}",
            f"Name a mirror that this machine reaches in {MIRROR_VARIABLE}, then run `make up` again.",
        )
    for leftover in LEFTOVERS:
        directory = root / leftover
        for entry in directory.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for needed in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
        (root / needed).mkdir(parents=True)
