"""API keys: who gets in, and what the file may do meanwhile."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from service.auth import ApiKeys
from tests.service.server import ServerProcess

RIGHT, OTHER = "key-of-team-a", "key-of-team-b"


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"\ufeff{RIGHT}\n\n# team b\n  {OTHER}  \n")  # some editors begin a file with that mark
    return file


@pytest.fixture(scope="module")
def guarded(model: Path, keys_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(model, tmp_path_factory.mktemp("guarded") / "log", API_KEYS_FILE=str(keys_file))
    yield process
    process.close()


@pytest.mark.parametrize("key", [RIGHT, OTHER])
def test_every_key_of_the_file_lets_in(guarded: ServerProcess, key: str) -> None:
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=key, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["tiny"]


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer", "Bearer # team b", RIGHT, f"Basic {RIGHT}", "Bearer \xff"]
)
@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/chat/completions", "/tokenize", "/version", "/nothing", "/metrics/"]
)
def test_without_a_right_key_every_answer_is_the_same(guarded: ServerProcess, header: str | None, path: str) -> None:
    headers = {} if header is None else {b"authorization": header.encode("latin-1")}
    answer = httpx.post(f"{guarded.url}{path}", headers=headers, json={})
    reference = httpx.get(f"{guarded.url}/v1/models")
    assert answer.status_code == reference.status_code == 401
    assert answer.content == reference.content
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_official_client_sees_an_authentication_error(guarded: ServerProcess) -> None:
    with (
        openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_probes_and_prometheus_need_no_key_and_no_key_is_in_the_log(guarded: ServerProcess) -> None:
    assert [guarded.get(path).status_code for path in ("/health", "/ready", "/metrics")] == [200, 200, 200]
    assert RIGHT not in guarded.log.read_text()


def test_new_keys_hold_at_once_after_a_swap_of_links(tmp_path: Path) -> None:
    """As the kubelet updates a Secret's volume: `keys` -> `..data/keys`, and `..data` is replaced by a rename."""
    for version, key in (("v1", RIGHT), ("v2", OTHER)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "keys").write_text(key)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "keys").symlink_to("..data/keys")
    keys = ApiKeys(tmp_path / "keys")
    assert (keys.allow(RIGHT.encode()), keys.allow(OTHER.encode())) == (True, False)
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert (keys.allow(RIGHT.encode()), keys.allow(OTHER.encode())) == (False, True)


@pytest.mark.parametrize("content", [None, "", "\n# only a comment\n"])
def test_no_file_or_no_key_refuses_everybody_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    file = tmp_path / "keys"
    file.write_text(RIGHT)
    keys = ApiKeys(file)
    assert keys.allow(RIGHT.encode())
    file.unlink()
    if content is not None:
        file.write_text(content)
    with caplog.at_level(logging.ERROR):
        assert not any(keys.allow(key) for key in (RIGHT.encode(), b"", b"#"))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    file.write_text(OTHER)
    assert keys.allow(OTHER.encode())


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file_refuses_everybody(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(RIGHT)
    file.chmod(0)
    assert not ApiKeys(file).allow(RIGHT.encode())
