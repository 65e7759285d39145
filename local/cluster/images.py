"""Images of the cluster's own parts: made from built binaries under the names that the upstream manifests ask for.

An image here is one layer of files, written as an OCI image layout (the specification's `oci-layout`, `index.json` and
`blobs/`) and given to containerd: no registry, no image builder.
"""

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from local.cluster.containerd import Containerd

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CHUNK_BYTES = 1 << 20
IMAGE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A second name of every image made here says from what it was made, so that an unchanged one is not made again.
MADE_FROM = "localhost/llm-stack/made-from"


@dataclass(frozen=True, kw_only=True)
class ScratchImage:
    """An image of a few static binaries and nothing else."""

    name: str
    binaries: Mapping[str, Path]  # path in the image -> file on this host
    entrypoint: tuple[str, ...]
    user: str

    @property
    def made_from(self) -> str:
        """Changes when a binary does: its place, size or time of change."""
        facts = [
            (inside, str(file), file.stat().st_size, file.stat().st_mtime_ns) for inside, file in self.binaries.items()
        ]
        key = hashlib.sha256(json.dumps([self.name, facts, self.entrypoint, self.user]).encode()).hexdigest()
        return f"{MADE_FROM}:{key[:32]}"


def provide(ctr: Containerd, images: Iterable[ScratchImage], scratch: Path) -> list[str]:
    """Makes the images that containerd does not hold yet, in the directory ``scratch``; returns their names."""
    held = ctr.images()
    missing = [image for image in images if not {image.name, image.made_from} <= held]
    for image in missing:
        with tempfile.TemporaryFile(dir=scratch) as layer:
            with tarfile.open(fileobj=layer, mode="w") as tar:
                _directory(tar, "tmp", 0o1777)
                for inside, file in image.binaries.items():
                    _file(tar, inside, file)
            load(
                ctr,
                layer,
                names=(image.name, image.made_from),
                entrypoint=image.entrypoint,
                user=image.user,
                scratch=scratch,
            )
    return [image.name for image in missing]


def load(
    ctr: Containerd, layer: BinaryIO, *, names: Iterable[str], entrypoint: tuple[str, ...], user: str, scratch: Path
) -> None:
    """Gives containerd an image of one uncompressed tar layer, under each of ``names``."""
    layer_digest, layer_size = _digest(layer)
    config = {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint), "User": user, "WorkingDir": "/", "Env": [f"PATH={IMAGE_PATH}"]},
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
    }  # fmt: skip
    config_blob = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(CONFIG, config_blob),
        "layers": [{"mediaType": LAYER, "digest": layer_digest, "size": layer_size}],
    }
    manifest_blob = json.dumps(manifest).encode()
    index = {
        "schemaVersion": 2,
        "manifests": [
            {**_descriptor(MANIFEST, manifest_blob), "annotations": {"io.containerd.image.name": name}}
            for name in names
        ],
    }
    with tempfile.NamedTemporaryFile(dir=scratch, suffix=".tar") as archive:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            _bytes(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
            _bytes(tar, "index.json", json.dumps(index).encode())
            for blob in (config_blob, manifest_blob):
                _bytes(tar, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
            layer.seek(0)
            entry = tarfile.TarInfo(f"blobs/sha256/{layer_digest.removeprefix('sha256:')}")
            entry.size = layer_size
            tar.addfile(entry, layer)
        archive.flush()
        ctr.import_image(Path(archive.name))


def _descriptor(media_type: str, blob: bytes) -> dict[str, str | int]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}


def _digest(file: BinaryIO) -> tuple[str, int]:
    file.seek(0)
    total, size = hashlib.sha256(), 0
    while chunk := file.read(CHUNK_BYTES):
        total.update(chunk)
        size += len(chunk)
    return f"sha256:{total.hexdigest()}", size


def _directory(tar: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def _file(tar: tarfile.TarFile, name: str, file: Path) -> None:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.size, entry.mode = file.stat().st_size, 0o755
    with file.open("rb") as content:
        tar.addfile(entry, content)


def _bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
