"""What the operating system has to bring, and getting it where that is Debian or its like."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from local.screen import LocalError, Screen

# Where distributions put the CNI plugins.
CNI_DIRECTORIES = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
CNI_PLUGINS = ("bridge", "host-local", "loopback")
# Command -> Debian package.
COMMANDS = {
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "ip": "iproute2",
    "openssl": "openssl",
    "debootstrap": "debootstrap",
    "tar": "tar",
}
APT_SECONDS = 40.0  # expected
LOCK_SECONDS = 120  # another apt may be at work
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def cni_plugins() -> Path:
    """The directory with the CNI plugins."""
    return next(directory for directory in CNI_DIRECTORIES if _has_plugins(directory))


def require(screen: Screen) -> None:
    """Installs what is missing.

    Raises:
        LocalError: the machine is of another kind, or not ours to change; one list of everything that is missing.
    """
    problems = list(_unsuited())
    missing = list(_missing())
    can_install = os.geteuid() == 0 and shutil.which("apt-get") is not None
    if missing and not can_install:
        problems.append(f"install {', '.join(missing)}" + ("" if shutil.which("apt-get") else " (Debian's names)"))
    if problems:
        raise LocalError(
            "This machine cannot run the embedded cluster yet:\n  - " + "\n  - ".join(problems),
            "Mend that and run the command again, or deploy to a cluster of yours: see the README.",
        )
    if missing:
        with screen.step(f"Debian packages {', '.join(missing)}", APT_SECONDS):
            _install(missing)


def _unsuited() -> Iterator[str]:
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        yield f"Linux on x86_64 or aarch64 is needed; this is {platform.system()} on {platform.machine()}"
    if os.geteuid() != 0:
        yield "be root (containers, mounts and network links need it)"
    if not Path("/sys/fs/cgroup").is_dir():
        yield "mount the control groups at /sys/fs/cgroup"


def _missing() -> Iterator[str]:
    for command, package in COMMANDS.items():
        if shutil.which(command, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}") is None:
            yield package
    if not any(_has_plugins(directory) for directory in CNI_DIRECTORIES):
        yield "containernetworking-plugins"


def _has_plugins(directory: Path) -> bool:
    return all((directory / plugin).exists() for plugin in CNI_PLUGINS)


def _install(packages: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    lock = f"-oDPkg::Lock::Timeout={LOCK_SECONDS}"
    for command in (
        ["apt-get", lock, "update", "-q"],
        ["apt-get", lock, "install", "-q", "-y", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-3:]
            raise LocalError(
                f"{' '.join(command)} failed:\n  " + "\n  ".join(last),
                "Run that command yourself to see why, then this one again.",
            )
