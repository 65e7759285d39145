"""Pulumi's state on this machine: that of the local stack dies with its cluster, any other outlives it."""

import json
import shutil
from pathlib import Path

STACK = "local"


def others(pulumi: Path) -> dict[str, int]:
    """How many resources each stack has that is not the local one; ``pulumi`` is the backend's directory."""
    files = sorted((pulumi / ".pulumi" / "stacks").glob("*/*.json"))
    return {file.stem: _resources(file) for file in files if file.stem != STACK}


def forget_local(pulumi: Path) -> None:
    """Removes the state of the local stack, and the whole backend where nothing else is in it."""
    if not others(pulumi):
        shutil.rmtree(pulumi, ignore_errors=True)
        return
    # stacks/<project>/<stack>.json[.bak|.attrs], and folders named for the stack under history, backups and locks
    for trace in (pulumi / ".pulumi").rglob(f"{STACK}*"):
        if trace.name.split(".")[0] != STACK or not trace.exists():
            continue
        shutil.rmtree(trace) if trace.is_dir() else trace.unlink()


def _resources(file: Path) -> int:
    deployment = json.loads(file.read_text()).get("checkpoint", {}).get("latest") or {}
    return len(deployment.get("resources") or [])
