"""The checkout and its Python environment."""

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from local.screen import LocalError, Screen

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements.txt"
PYTHON = ENVIRONMENT / "bin" / "python"
INSTALL_SECONDS = 60.0  # expected, from an empty pip cache


def in_environment() -> bool:
    """Whether this process already runs in the project's environment."""
    return Path(sys.prefix).resolve() == ENVIRONMENT.resolve()


def enter(screen: Screen) -> None:
    """Runs the same command again in the project's environment, after making it; returns only where it already runs there."""
    _install(screen)
    if not in_environment():
        os.execv(PYTHON, [str(PYTHON), "-m", "local", *sys.argv[1:]])


def _install(screen: Screen) -> None:
    key = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    done = ENVIRONMENT / f"llm-stack-{key}"
    if done.exists():
        return
    if importlib.util.find_spec("ensurepip") is None:
        raise LocalError(
            "This Python cannot make virtual environments.",
            "Install what it lacks (on Debian `apt-get install python3-venv`), then run the command again.",
        )
    with screen.step("Python packages of the Pulumi program", INSTALL_SECONDS):
        if not (ENVIRONMENT / "bin" / "pip").exists():  # written last: an interrupted one is made again
            _run([sys.executable, "-m", "venv", str(ENVIRONMENT)])
        _run([str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS)])
    done.touch()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalError(
            f"{' '.join(command[:4])} failed: {(done.stderr or done.stdout).strip()}",
            "Look at the message above (often the package index cannot be reached); then run the command again.",
        )
