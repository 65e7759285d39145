"""Weights from an S3-compatible storage: moto's server over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from service import fetch

MODEL = {"config.json": b"{}", "model.safetensors": b"w" * 100_000, "deep/extra.json": b"[]", "model.bin": b"pickle"}


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket with a model below models/chat; boto3 is told where it is by its environment."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="weights")
    for name, content in MODEL.items():
        client.put_object(Bucket="weights", Key=f"models/chat/{name}", Body=content)
    client.put_object(Bucket="weights", Key="models/chatter/config.json", Body=b"other")
    yield "s3://weights/models/chat"
    server.stop()


def contents(folder: Path) -> dict[str, bytes]:
    """The model's files; those with a dot are the fetch's own."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def put(key: str, content: bytes) -> None:
    boto3.client("s3").put_object(Bucket="weights", Key=f"models/chat/{key}", Body=content)


def test_every_file_but_pickled_weights_comes_whole(storage: str, tmp_path: Path) -> None:
    said: list[str] = []
    fetch.fetch(storage, tmp_path, said.append)
    assert contents(tmp_path) == {name: content for name, content in MODEL.items() if not name.endswith(".bin")}
    assert said[-1] == "3 files are there, 3 of them new"


def test_a_second_fetch_brings_only_what_is_missing_or_cut_off(storage: str, tmp_path: Path) -> None:
    fetch.fetch(storage, tmp_path, lambda _: None)
    assert fetch.fetch(storage, tmp_path, lambda _: None) == 0
    (tmp_path / "model.safetensors").write_bytes(b"half")
    assert fetch.fetch(storage, tmp_path, lambda _: None) == len(MODEL["model.safetensors"])
    assert (tmp_path / "model.safetensors").read_bytes() == MODEL["model.safetensors"]


def test_an_object_of_the_same_size_with_other_content_is_brought_anew(storage: str, tmp_path: Path) -> None:
    fetch.fetch(storage, tmp_path, lambda _: None)
    changed = b"v" * len(MODEL["model.safetensors"])
    put("model.safetensors", changed)
    assert fetch.fetch(storage, tmp_path, lambda _: None) == len(changed)
    assert contents(tmp_path)["model.safetensors"] == changed
    assert fetch.fetch(storage, tmp_path, lambda _: None) == 0


def test_a_file_of_which_nobody_says_what_it_is_is_brought_anew(storage: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * len(MODEL["model.safetensors"]))
    fetch.fetch(storage, tmp_path, lambda _: None)
    assert contents(tmp_path)["model.safetensors"] == MODEL["model.safetensors"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("s3://weights/models", "there is no config.json"),
        ("s3://nowhere/models", "check endpoint, bucket and access key"),
        ("https://weights/models", "must be s3://<bucket>/<prefix>"),
        ("", "Set SOURCE"),
    ],
)
def test_what_cannot_be_brought_says_why(
    storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, says: str
) -> None:
    assert fetch.main({"SOURCE": source, "TARGET": str(tmp_path)}) != 0
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
