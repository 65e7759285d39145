"""Building an image with BuildKit: straight into the cluster's containerd, where the kubelet finds it by its digest, or
into a registry.

A repository on this machine (`localhost:5001/…`) at which no registry answers means the embedded cluster's own containerd.
"""

import contextlib
import json
import os
import re
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from local.providers.docker import host

BUILDKIT_VARIABLE = "BUILDKIT_HOST"  # of `buildctl`; `ctr` has such variables too
LAYER = "regular"  # BuildKit's word for a cached layer; it has others for fetched packages and for sources
# Layers in the cache that belong to no image any more: room for many changes of the service, and for no second torch (8 GB).
SPARE_CACHE_BYTES = 3 * 10**9
LOCAL_HOSTS = ("localhost", "127.0.0.1")
ANSWER_SECONDS = 3.0
UNAUTHORIZED = 401  # the answer of a registry that wants a password
SHOWN_LINES = 20
# A line of `buildctl`: the number of the step, for a step's own words the seconds since its start, and what is said.
STEP = re.compile(r"#\d+ (?:\d+\.\d+ +)?(\S.*)")


class CacheRecord(TypedDict):
    """What `buildctl du` says of a part of the cache; a shared one is part of an image."""

    size: int
    shared: bool
    recordType: str


class BuildError(Exception):
    """The build did not come to its end; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Of a registry; where none are given, those of `docker login` serve."""

    server: str
    username: str
    password: str


@dataclass(frozen=True, kw_only=True)
class Build:
    """What to build. ``name`` is `repository:tag`."""

    name: str
    context: Path
    dockerfile: Path
    arguments: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    target: str = ""
    credentials: Credentials | None = None

    @property
    def repository(self) -> str:
        return self.name.rpartition(":")[0]


class Builder:
    """BuildKit and containerd at the addresses of the environment."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._cancelled = threading.Event()

    def build(self, build: Build, report: Callable[[str], None]) -> str:
        """Builds and returns the image's reference by digest (`repository@sha256:…`).

        Raises:
            BuildError: there is no builder, a step failed, or the build was cancelled.
        """
        address = os.environ.get(BUILDKIT_VARIABLE, "")
        if not Path(address.removeprefix("unix://")).is_socket():
            raise BuildError(
                f'No BuildKit answers at {BUILDKIT_VARIABLE}={address!r}. Run `make up`, then eval "$(python3 -m local env)".'
            )
        pushed = _in_registry(build.repository)
        self._make_room(build)
        with tempfile.TemporaryDirectory() as directory, _docker_config(build.credentials) as environment:
            metadata = Path(directory) / "metadata.json"
            self._run(self._command(build, metadata, pushed=pushed), environment, report)
            digest = json.loads(metadata.read_text())["containerimage.digest"]
        reference = f"{build.repository}@{digest}"
        if not pushed:
            # The kubelet looks a digest up by that very name.
            _output("ctr", "images", "tag", "--force", build.name, reference)
        return reference

    def holds(self, reference: str) -> bool:
        """Whether the image is there; True where nobody can be asked, for then nothing is known against it."""
        repository = reference.partition("@")[0]
        try:
            return _in_registry(repository) or reference in self._images()
        except BuildError:
            return True

    def cancel(self) -> None:
        self._cancelled.set()
        for process in list(self._running):
            process.terminate()

    def _make_room(self, build: Build) -> None:
        """Drops the images before the last one, which pods may still run from, and then the cache, where much of it was theirs.

        BuildKit (seen with 0.31) no longer finds what it keeps after it has dropped a part, and so would make one more copy
        of torch at every build: so it drops all of its layers, seldom, and the build that follows makes them once more.
        """
        images = self._images()
        kept = {images.get(build.name)}
        for name, digest in images.items():
            # The kubelet's runtime has a name of its own, `sha256:…`, for every image; it must go too.
            if not name.startswith((f"{build.repository}@", "sha256:")):
                kept.add(digest)
        if old := [name for name, digest in images.items() if digest not in kept]:
            _output("ctr", "images", "remove", "--sync", *old)
        cache: list[CacheRecord] = json.loads(_output("buildctl", "du", "--format", "{{json .}}")) or []
        spare = sum(one["size"] for one in cache if one["recordType"] == LAYER and not one["shared"])
        if spare > SPARE_CACHE_BYTES:
            _output("buildctl", "prune", "--all", "--filter", f"type=={LAYER}")

    def _images(self) -> dict[str, str]:
        """The digest of every image of the cluster, by name."""
        rows = (line.split() for line in _output("ctr", "images", "list").splitlines()[1:])
        return {row[0]: row[2] for row in rows}

    def _command(self, build: Build, metadata: Path, *, pushed: bool) -> list[str]:
        result = "push=true,store=false" if pushed else "unpack=true,compression=zstd"
        options = {
            "filename": build.dockerfile.name,
            # A base image that the cluster holds is taken as it is; one that it lacks is pulled.
            "image-resolve-mode": "local",
            **({"platform": build.platform} if build.platform else {}),
            **({"target": build.target} if build.target else {}),
            **{f"build-arg:{name}": value for name, value in host.proxies().items()},
            **{f"build-arg:{name}": value for name, value in build.arguments.items()},
        }
        return [
            "buildctl", "build", "--progress", "plain", "--frontend", "dockerfile.v0",
            "--local", f"context={build.context}", "--local", f"dockerfile={build.dockerfile.parent}",
            *(part for name, value in options.items() for part in ("--opt", f"{name}={value}")),
            *(part for name, file in host.secrets(metadata.parent).items() for part in ("--secret", f"id={name},src={file}")),
            "--output", f"type=image,name={build.name},{result}",
            "--metadata-file", str(metadata),
        ]  # fmt: skip

    def _run(self, command: list[str], environment: Mapping[str, str], report: Callable[[str], None]) -> None:
        lines: list[str] = []
        with subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            self._running.add(process)
            assert process.stderr is not None
            for line in process.stderr:
                lines.append(line.rstrip())
                if step := STEP.match(line):
                    report(step[1].strip())
        self._running.discard(process)
        if self._cancelled.is_set():
            raise BuildError("The build was cancelled.")
        if process.returncode != 0:
            raise BuildError("The build failed:\n" + "\n".join(lines[-SHOWN_LINES:]))


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BuildError(f'{command[0]} is not on the path: run eval "$(python3 -m local env)"') from None
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _local(repository: str) -> bool:
    return repository.partition("/")[0].partition(":")[0] in LOCAL_HOSTS


def _in_registry(repository: str) -> bool:
    """Whether the image belongs into a registry: anywhere but on this machine, and here where one answers."""
    if not _local(repository):
        return True
    try:
        with urllib.request.urlopen(f"http://{repository.partition('/')[0]}/v2/", timeout=ANSWER_SECONDS):
            return True
    except OSError as error:
        return isinstance(error, urllib.error.HTTPError) and error.code == UNAUTHORIZED


@contextlib.contextmanager
def _docker_config(credentials: Credentials | None) -> Iterator[dict[str, str]]:
    """The variables with which `buildctl` finds the credentials; they are in a private file while it runs."""
    if credentials is None:
        yield {}
        return
    pair = b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "config.json").write_text(json.dumps({"auths": {credentials.server: {"auth": pair}}}))
        yield {"DOCKER_CONFIG": directory}
