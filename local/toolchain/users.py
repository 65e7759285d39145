"""Commands that the user has and that can take the place of ours."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

# Comes with the official distribution of the command; a build from source has none.
LANGUAGE_HOST = "pulumi-language-python"
# Kubernetes' own rule: kubectl may be one minor version older or newer than the API server.
KUBECTL_SKEW = 1
ANSWER_SECONDS = 20.0  # a first start on a cold disk

Version = tuple[int, int, int]


def pulumi(oldest: str) -> Path | None:
    """A pulumi on the path that is complete and of version ``oldest`` or newer, of the same major version."""
    found = shutil.which("pulumi")
    if found is None or not (Path(found).resolve().parent / LANGUAGE_HOST).exists():
        return None
    has, needs = _version(_output([found, "version"])), _version(oldest)
    return Path(found) if has and needs and has[0] == needs[0] and has >= needs else None


def kubectl(server: str, ours: Path) -> Path | None:
    """A kubectl on the path, other than in the directory ``ours``, that may talk to an API server of version ``server``."""
    elsewhere = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder != str(ours)]
    found = shutil.which("kubectl", path=os.pathsep.join(elsewhere))
    if found is None:
        return None
    try:
        said = json.loads(_output([found, "version", "--client", "-o", "json"]))["clientVersion"]["gitVersion"]
    except (ValueError, KeyError):
        return None
    has, needs = _version(said), _version(server)
    near = has and needs and has[0] == needs[0] and abs(has[1] - needs[1]) <= KUBECTL_SKEW
    return Path(found) if near else None


def _output(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _version(text: str) -> Version | None:
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text.strip())
    return (int(found[1]), int(found[2]), int(found[3])) if found else None
