"""Ready-made tools: resumed, checked, and never used when they are not what their publisher says."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from local.toolchain.download import MIRROR_VARIABLE, Downloader, UnavailableError, WrongContentError
from local.toolchain.table import Download
from tests.local.conftest import Site

PROGRAM = b"#!/bin/sh\necho hello\n" + bytes(range(256)) * 8192  # over one chunk of the downloader's
ARCHIVE = "/tools.example/v1.2.3/tool-amd64.tar.gz"
SUMS = "/tools.example/v1.2.3/SHA256SUMS"
TOOL = Download(
    url="https://tools.example/v{version}/tool-amd64.tar.gz",
    checksums="https://tools.example/v{version}/SHA256SUMS",
    members={"tool-{version}/bin/tool": "tool"},
)


def packed(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=0) as archive:
        entry = tarfile.TarInfo("tool-1.2.3/bin/tool")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def publisher(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv(MIRROR_VARIABLE, site.url)
    archive = packed(PROGRAM)
    digest = hashlib.sha256(archive).hexdigest()
    site.files = {ARCHIVE: archive, SUMS: f"{'0' * 64}  other.tar.gz\n{digest} *tool-amd64.tar.gz\n".encode()}
    return site


def fetch(directory: Path, downloader: Downloader | None = None) -> list[str]:
    reports: list[str] = []
    (downloader or Downloader()).fetch(TOOL, "1.2.3", directory / "bin", directory / "cache", reports.append)
    return reports


def archive_requests(site: Site) -> list[str]:
    return [wanted for path, wanted in site.asked if path == ARCHIVE]


def test_tool_is_unpacked_executable_and_progress_is_told(publisher: Site, tmp_path: Path) -> None:
    reports = fetch(tmp_path)
    assert (tmp_path / "bin" / "tool").read_bytes() == PROGRAM
    assert (tmp_path / "bin" / "tool").stat().st_mode & 0o111 == 0o111
    assert list((tmp_path / "cache").iterdir()) == []
    assert any("tool-amd64.tar.gz, 2 MB" in report for report in reports)


def test_truncated_download_goes_on_where_it_broke_off(publisher: Site, tmp_path: Path) -> None:
    publisher.cut[ARCHIVE] = [1000, 5000]
    fetch(tmp_path)
    assert (tmp_path / "bin" / "tool").read_bytes() == PROGRAM
    assert archive_requests(publisher) == ["", "bytes=1000-", "bytes=6000-"]


def test_truncated_download_begins_again_where_the_publisher_cannot_resume(publisher: Site, tmp_path: Path) -> None:
    publisher.cut[ARCHIVE] = [1000]
    publisher.resumable = False
    fetch(tmp_path)
    assert (tmp_path / "bin" / "tool").read_bytes() == PROGRAM


def test_download_that_always_breaks_off_is_unavailable_and_the_next_call_goes_on(
    publisher: Site, tmp_path: Path
) -> None:
    publisher.cut[ARCHIVE] = [1000, 2000, 3000]
    with pytest.raises(UnavailableError, match="broke off 3 times"):
        fetch(tmp_path)
    assert not (tmp_path / "bin").exists()
    fetch(tmp_path)
    assert archive_requests(publisher)[-1] == "bytes=6000-"
    assert (tmp_path / "bin" / "tool").read_bytes() == PROGRAM


def test_wrong_file_is_refused_and_deleted(publisher: Site, tmp_path: Path) -> None:
    publisher.files[ARCHIVE] = packed(b"something else")
    with pytest.raises(WrongContentError, match="its publisher says"):
        fetch(tmp_path)
    assert not (tmp_path / "bin").exists()
    assert list((tmp_path / "cache").iterdir()) == []


def test_archive_without_the_binary_is_refused(publisher: Site, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    tarfile.open(fileobj=buffer, mode="w:gz").close()
    publisher.files[ARCHIVE] = buffer.getvalue()
    publisher.files[SUMS] = f"{hashlib.sha256(buffer.getvalue()).hexdigest()}\n".encode()
    with pytest.raises(WrongContentError, match=r"holds no file tool-1\.2\.3/bin/tool"):
        fetch(tmp_path)


def test_file_without_a_checksum_is_not_downloaded(publisher: Site, tmp_path: Path) -> None:
    publisher.files[SUMS] = b"nothing of the kind\n"
    with pytest.raises(UnavailableError, match=r"no checksum of tool-amd64\.tar\.gz"):
        fetch(tmp_path)
    assert archive_requests(publisher) == []


def test_silent_publisher_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, "http://127.0.0.1:1")
    downloader = Downloader()
    with pytest.raises(UnavailableError, match="Connection refused"):
        fetch(tmp_path, downloader)
    with pytest.raises(UnavailableError, match=r"^tools.example does not answer$"):
        fetch(tmp_path, downloader)
