"""What a build takes from its host."""

from pathlib import Path

import pytest

from local.providers.docker import host

DUMP = """\
APT::Architecture "amd64";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::https::Proxy::deb.example "DIRECT";
Acquire::https::CAInfo "/etc/host-only.crt";
Acquire::ftp::Proxy "";
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose `apt-config dump` says what the file says."""
    said = tmp_path / "dump"
    command = tmp_path / "bin" / "apt-config"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\ncat {said}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    return said


def test_proxies_of_apt_are_taken_and_nothing_else_of_it(apt: Path, tmp_path: Path) -> None:
    apt.write_text(DUMP)
    assert host.secrets(tmp_path)["apt.conf"].read_text().splitlines() == DUMP.splitlines()[1:3]


def test_host_without_settings_gives_none(apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt.write_text('Acquire::Languages "none";\n')
    monkeypatch.setattr(host, "PIP_CONFIGS", ())
    for name in ("PIP_CONFIG_FILE", *host.PIP_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing"))
    for name in host.PROXIES:
        monkeypatch.delenv(name, raising=False)
    assert host.secrets(tmp_path) == {}
    assert host.proxies() == {}


def test_pip_is_configured_as_on_the_host(apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt.touch()
    (tmp_path / "theirs").write_text("[global]\nindex-url = https://one.example/%40simple\ntimeout = 60\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "theirs"))
    monkeypatch.setenv("PIP_INDEX_URL", "https://two.example/simple")
    assert host.secrets(tmp_path)["pip.conf"].read_text().split() == [
        "[global]", "index-url", "=", "https://two.example/simple", "timeout", "=", "60",
    ]  # fmt: skip


def test_certificates_and_proxies_are_those_of_the_environment(
    apt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt.touch()
    (tmp_path / "ca.crt").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert host.secrets(tmp_path)["ca-bundle"] == tmp_path / "ca.crt"
    assert host.proxies()["https_proxy"] == "http://proxy.example:3128"
