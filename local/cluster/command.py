"""Running the tools of the cluster and saying what they said when they fail."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local.screen import LocalError

TIMEOUT_SECONDS = 120.0  # no single call of a tool below takes longer on two busy cores


def output(
    command: Sequence[str | Path], *, stdin: str | None = None, timeout: float = TIMEOUT_SECONDS, remedy: str = ""
) -> str:
    """Standard output of a command that has to succeed.

    Raises:
        LocalError: the command failed or took longer than ``timeout`` seconds; the message carries its own words.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise LocalError(
            f"{' '.join(words[:4])} gave no answer in {timeout:.0f} s", remedy or "Run the same command again."
        ) from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise LocalError(f"{' '.join(words[:4])}: {said}", remedy or "Run the same command again.")
    return done.stdout


def succeeds(command: Sequence[str | Path], timeout: float = TIMEOUT_SECONDS) -> bool:
    """Whether the command ends with status 0 in time; what it prints is dropped."""
    words = [str(word) for word in command]
    try:
        return subprocess.run(words, capture_output=True, timeout=timeout, check=False).returncode == 0
    except (subprocess.TimeoutExpired, FileNotFoundError):
        return False


@dataclass(frozen=True)
class Kubectl:
    """kubectl with the cluster's administrator credentials."""

    executable: Path
    kubeconfig: Path

    def command(self, *arguments: str) -> list[str]:
        return [str(self.executable), f"--kubeconfig={self.kubeconfig}", *arguments]

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = TIMEOUT_SECONDS) -> str:
        return output(self.command(*arguments), stdin=stdin, timeout=timeout, remedy="See `python3 -m local status`.")

    def succeeds(self, *arguments: str, timeout: float = 10.0) -> bool:
        return succeeds(self.command(*arguments), timeout)

    def apply(self, manifest: str, *, force: bool = True) -> None:
        """Server-side apply of a manifest (client-side fails on the size of KEDA's CRDs)."""
        self("apply", "--server-side", *(["--force-conflicts"] if force else []), "-f", "-", stdin=manifest)

    def jsonpath(self, resource: str, path: str, namespace: str = "") -> str:
        """One field of one object; empty when the object or the field is not there."""
        where = ["-n", namespace] if namespace else []
        found = subprocess.run(
            self.command("get", resource, *where, "--ignore-not-found", "-o", f"jsonpath={path}"),
            capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        return found.stdout.strip() if found.returncode == 0 else ""
