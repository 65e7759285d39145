"""Where the project's files are."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def from_program(path: Path) -> str:
    """A path as plugins resolve it, from the program's directory: another checkout has the same inputs."""
    return os.path.relpath(path, ROOT / "infra")
