"""`SOURCE=s3://bucket/prefix TARGET=<directory> python -m service.fetch`: brings a model's files from an S3-compatible storage.

Each file appears under its name when it is whole, so that a fetch that was interrupted goes on where it stopped, and several
pods may share the directory. Beside each stands what the storage calls that content (its ETag): an object that was replaced by
another one of the same size is brought anew. The storage's address, region and keys come from the AWS variables that boto3 reads.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from service.weight_files import UNWANTED

FAILURE_STATUS, USAGE_STATUS = 1, 2
ATTEMPTS = 10
REPORT_SECONDS = 5.0
MEGABYTE = 1e6


class FetchError(Exception):
    """The model's files cannot be brought; the message says why and what to do."""


@dataclass(frozen=True)
class StoredFile:
    """One object below the prefix; ``name`` is relative to it, ``etag`` changes with its content."""

    key: str
    name: str
    size: int
    etag: str


def fetch(source: str, target: Path, report: Callable[[str], None]) -> int:
    """Brings every file below ``source`` that ``target`` lacks or has otherwise; returns the bytes that had to be brought.

    Raises:
        FetchError: no such place, no model in it, or the storage refuses.
    """
    address = urlsplit(source)
    bucket, prefix = address.netloc, address.path.strip("/")
    if address.scheme != "s3" or not bucket:
        raise FetchError(f"SOURCE={source}: must be s3://<bucket>/<prefix>")
    client = boto3.client("s3", config=Config(retries={"max_attempts": ATTEMPTS, "mode": "standard"}))
    try:
        files = list(_files(client.get_paginator("list_objects_v2"), bucket, prefix))
        if not any(file.name == "config.json" for file in files):
            raise FetchError(f"{source}: there is no config.json; give the directory that holds the model's files")
        missing = [file for file in files if not _is_there(target / file.name, file)]
        progress = _Progress(sum(file.size for file in missing), report)
        for file in missing:
            _bring(client, bucket, file, target, progress)
    except (BotoCoreError, ClientError) as error:
        raise FetchError(f"{source}: {error}; check endpoint, bucket and access key") from error
    report(f"{len(files)} files are there, {len(missing)} of them new")
    return progress.total


def _files(paginator: Any, bucket: str, prefix: str) -> Iterator[StoredFile]:
    for page in paginator.paginate(Bucket=bucket, Prefix=f"{prefix}/" if prefix else ""):
        for entry in page.get("Contents", ()):
            name = entry["Key"].removeprefix(prefix).lstrip("/")
            if name and not name.endswith("/") and not any(fnmatchcase(name, one) for one in UNWANTED):
                yield StoredFile(entry["Key"], name, entry["Size"], entry["ETag"])


def _bring(client: Any, bucket: str, file: StoredFile, target: Path, progress: "_Progress") -> None:
    path = target / file.name
    if not path.resolve().is_relative_to(target.resolve()):
        raise FetchError(f"{file.key}: leads out of {target}")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of this pod alone: another one may bring the same file at the same time.
    partial = path.with_name(f".{path.name}.{os.uname().nodename}")
    try:
        client.download_file(bucket, file.key, str(partial), Callback=progress.add)
        # Until the new mark is there no mark stands beside the file: whoever is interrupted in between brings it again.
        _mark(path).unlink(missing_ok=True)
        partial.replace(path)
        partial.write_text(file.etag)
        partial.replace(_mark(path))
    finally:
        partial.unlink(missing_ok=True)


def _mark(path: Path) -> Path:
    """The file that says which content of the object ``path`` has."""
    return path.with_name(f".{path.name}.etag")


def _is_there(path: Path, file: StoredFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    mark = _mark(path)
    return mark.is_file() and mark.read_text() == file.etag


class _Progress:
    """Says now and then how much has come; told from several threads."""

    def __init__(self, total: int, report: Callable[[str], None]) -> None:
        self.total = total
        self._report = report
        self._came = 0
        self._began = self._said = time.monotonic()

    def add(self, count: int) -> None:
        self._came += count
        now = time.monotonic()
        if now - self._said < REPORT_SECONDS:
            return
        self._said = now
        speed = self._came / (now - self._began) / MEGABYTE
        self._report(f"{self._came / MEGABYTE:.0f} of {self.total / MEGABYTE:.0f} MB, {speed:.0f} MB/s")


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Returns the exit status."""
    source, target = environment.get("SOURCE", ""), environment.get("TARGET", "")
    if not source or not target:
        print("Set SOURCE to s3://<bucket>/<prefix> and TARGET to a directory.", file=sys.stderr)
        return USAGE_STATUS
    try:
        fetch(source, Path(target), lambda message: print(message, flush=True))
    except (FetchError, OSError) as error:
        print(error, file=sys.stderr)
        return FAILURE_STATUS
    return 0


if __name__ == "__main__":
    sys.exit(main())
