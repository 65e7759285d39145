"""The weights that the local stack serves: a small instruct model from the hub, or a tiny random one where no hub answers."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.response import addinfourl

from local import transfer
from local.paths import Paths
from local.screen import LocalError, Step

# 135 M parameters: a chat model that two CPU cores serve at reading speed.
REPOSITORY = "HuggingFaceTB/SmolLM2-135M-Instruct"
HUB_VARIABLE = "HF_ENDPOINT"  # the hub's own name for "where the hub is"
DEFAULT_HUB = "https://huggingface.co"
ANSWER_SECONDS = 8.0
# What a server needs of a repository: no other framework's weights, no pictures.
SUFFIXES = (".json", ".safetensors", ".txt", ".jinja", ".model")
SERVED_NAME = "chat"
RECORD = "llm-stack.json"


@dataclass(frozen=True)
class Weights:
    """A model directory and where it came from; ``revision`` is empty for random weights."""

    directory: Path
    repository: str
    revision: str

    @property
    def random(self) -> bool:
        return not self.revision


def provide(paths: Paths, step: Step) -> Weights:
    """Returns the weights that are here, else fetches the hub's, else makes random ones; a later call finds the same."""
    found = recorded(paths)
    if found is None:
        found = _fetch(paths, step) or _make(paths, step)
        _record(paths).write_text(
            json.dumps({"repository": found.repository, "revision": found.revision, "directory": str(found.directory)})
        )
    return found


def recorded(paths: Paths) -> Weights | None:
    """The weights of an earlier call, if their directory is still there."""
    if not _record(paths).exists():
        return None
    facts = json.loads(_record(paths).read_text())
    weights = Weights(Path(facts["directory"]), facts["repository"], facts["revision"])
    return weights if weights.directory.is_dir() else None


def serve(paths: Paths, weights: Weights) -> None:
    """Puts the weights where the node offers them to pods: a directory of the name that the stack's volume points at."""
    paths.served_models.mkdir(parents=True, exist_ok=True)
    link = paths.served_models / SERVED_NAME
    if not link.is_symlink() or link.readlink() != weights.directory:
        link.unlink(missing_ok=True)
        link.symlink_to(weights.directory)


def _record(paths: Paths) -> Path:
    return paths.weights / RECORD


def _make(paths: Paths, step: Step) -> Weights:
    step.report("no hub answers: making a tiny random model")
    directory = paths.weights / "tiny-random"
    shutil.rmtree(directory, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "local.tiny_model", str(directory)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LocalError(
            f"The tiny model could not be made: {done.stderr.strip().splitlines()[-1]}", "Run `make up` again."
        )
    return Weights(directory, "tiny-random", "")


def _fetch(paths: Paths, step: Step) -> Weights | None:
    hub = os.environ.get(HUB_VARIABLE, DEFAULT_HUB).rstrip("/")
    step.report(f"asking {hub}")
    try:
        with urllib.request.urlopen(f"{hub}/api/models/{REPOSITORY}?blobs=true", timeout=ANSWER_SECONDS) as answer:
            facts = json.load(answer)
    except (OSError, ValueError):
        return None
    revision = str(facts["sha"])
    directory = paths.weights / f"{REPOSITORY.replace('/', '--')}-{revision}"
    directory.mkdir(exist_ok=True)
    files = [
        file for file in facts["siblings"] if file["rfilename"].endswith(SUFFIXES) and "/" not in file["rfilename"]
    ]
    for file in files:
        name = file["rfilename"]
        checksum = (file.get("lfs") or {}).get("sha256", "")
        _download(f"{hub}/{REPOSITORY}/resolve/{revision}/{name}", directory / name, int(file["size"]), checksum, step)
    return Weights(directory, REPOSITORY, revision)


def _download(url: str, target: Path, size: int, checksum: str, step: Step) -> None:
    """Fetches one file, going on where an earlier attempt stopped; it gets its name when size and checksum are right."""
    if target.exists():
        return
    part = target.with_name(f"{target.name}.part")

    def open_file(headers: dict[str, str]) -> addinfourl:
        opened: addinfourl = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=ANSWER_SECONDS
        )
        return opened

    def told(have: int) -> None:
        step.report(f"{target.name}: {have / 1e6:.0f} of {size / 1e6:.0f} MB")

    try:
        whole = transfer.complete(open_file, part, told)
        why = "it broke off again and again"
    except OSError as error:
        whole, why = False, str(error)
    if not whole:
        raise LocalError(f"The download of {url} stopped: {why}", "Run the command again: it goes on where it stopped.")
    wrong = part.stat().st_size != size or (checksum and _sha256(part) != checksum)
    if wrong:
        part.unlink()
        raise LocalError(
            f"{url} came with a wrong size or checksum",
            "Run the command again; if it repeats, the hub or a proxy alters files.",
        )
    part.rename(target)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
