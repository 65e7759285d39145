"""Ready-made binaries from their publishers: resumed where they stopped, and checked before they are used."""

import hashlib
import os
import platform
import re
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.response import addinfourl

from local import transfer
from local.toolchain.table import Download

# Set to a base URL, it takes the place of every publisher's host: `<mirror>/<host>/<path>`.
MIRROR_VARIABLE = "LLM_STACK_MIRROR"
ANSWER_SECONDS = 5.0
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PULUMI_ARCHITECTURES = {"amd64": "x64", "arm64": "arm64"}
HASHES = {64: "sha256", 128: "sha512"}  # by the digits of the checksum


class UnavailableError(Exception):
    """The publisher cannot be reached, or does not have the file."""


class WrongContentError(Exception):
    """The publisher's file is not the one that its checksum names."""


class Downloader:
    """Remembers which hosts do not answer, so that each is waited for once."""

    def __init__(self) -> None:
        self._silent: set[str] = set()

    def fetch(self, download: Download, version: str, target: Path, cache: Path, report: Callable[[str], None]) -> None:
        """Puts the binaries of ``download`` into the directory ``target``.

        Raises:
            UnavailableError: nothing came.
            WrongContentError: what came is not what the publisher's checksum says; it has been deleted.
        """
        values = _values(version)
        url = download.url.format(**values)
        name = url.rpartition("/")[2]
        expected = self._checksum(download.checksums.format(**values), name)
        cache.mkdir(parents=True, exist_ok=True)
        archive = cache / name
        if not archive.exists():
            self._download(url, archive, expected, report)
        for inside, ours in download.members.items():
            file = target / ours
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_member(archive, inside.format(**values)))
            file.chmod(0o755)
        archive.unlink()

    def _checksum(self, url: str, name: str) -> str:
        with self._open(url, {}) as answer:
            text = answer.read().decode()
        for line in text.splitlines():
            words = line.split()
            if (
                words
                and (len(words) == 1 or words[-1].lstrip("*./").rpartition("/")[2] == name)
                and len(words[0]) in HASHES
            ):
                return str(words[0].lower())
        raise UnavailableError(f"{url} has no checksum of {name}")

    def _download(self, url: str, archive: Path, expected: str, report: Callable[[str], None]) -> None:
        part = archive.with_name(f"{archive.name}.part")

        def told(size: int) -> None:
            report(f"downloading {archive.name}, {size / 1e6:.0f} MB")

        if not transfer.complete(lambda headers: self._open(url, headers), part, told):
            raise UnavailableError(f"the download of {url} broke off {transfer.ATTEMPTS} times")
        with part.open("rb") as content:
            found = hashlib.file_digest(content, HASHES[len(expected)]).hexdigest()
        if found != expected:
            part.unlink()
            raise WrongContentError(f"{url} has the checksum {found}, and its publisher says {expected}")
        part.rename(archive)

    def _open(self, url: str, headers: dict[str, str]) -> addinfourl:
        host = urllib.parse.urlsplit(url).netloc
        if host in self._silent:
            raise UnavailableError(f"{host} does not answer")
        if mirror := os.environ.get(MIRROR_VARIABLE):
            url = f"{mirror.rstrip('/')}/{url.partition('://')[2]}"
        try:
            answer: addinfourl = urllib.request.urlopen(
                urllib.request.Request(url, headers=headers), timeout=ANSWER_SECONDS
            )
        except urllib.error.HTTPError as error:
            if error.code == transfer.RANGE_BEGINS_AT_THE_END:
                raise
            error.close()
            raise UnavailableError(f"{url} answered {error.code}") from None
        except OSError as error:
            self._silent.add(host)
            raise UnavailableError(f"{host} does not answer: {error}") from None
        return answer


def _member(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as tar:
        try:
            member = tar.extractfile(name)
        except KeyError:
            member = None
        if member is None:
            raise WrongContentError(f"{archive.name} holds no file {name}")
        return member.read()


def _values(version: str) -> dict[str, str]:
    arch = ARCHITECTURES[platform.machine()]
    # Prometheus' module v0.314.0 is its release 3.14.0: the first number is the hundreds of the second.
    module = re.fullmatch(r"0\.(\d)(\d\d)\.(\d+)", version)
    release = f"{module[1]}.{int(module[2])}.{module[3]}" if module else version
    return {"version": version, "release": release, "arch": arch, "pulumi_arch": PULUMI_ARCHITECTURES[arch]}
