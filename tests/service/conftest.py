from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from local import tiny_model
from tests.service.server import ServerProcess


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    tiny_model.create(directory)
    return directory


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(
        model, tmp_path_factory.mktemp("server") / "log", MAX_RUNNING_REQUESTS="4", MAX_WAITING_REQUESTS="2"
    )
    yield process
    process.close()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made
