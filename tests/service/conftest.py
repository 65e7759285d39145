import json
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import openai
import pytest

from local import tiny_model
from tests.service.server import ServerProcess

# How long an example takes says nothing where other work runs beside it.
hypothesis.settings.register_profile("service", deadline=None)
hypothesis.settings.load_profile("service")

# The tiny model's own, with tools, calls and thoughts written as Hermes and Qwen do.
CHAT_TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\nTools: ' + tools | tojson + ' Call as <tool_call></tool_call>.<|im_end|>\n' }}"
    "{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'refused' %}{{ raise_exception('unknown role') }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{% for call in message['tool_calls'] %}"
    "{{ '<tool_call>' + call['function']['name'] + call['function']['arguments'] | tojson + '</tool_call>' }}"
    "{% endfor %}"
    "{{ '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if thinking %}{{ '<think>\n' }}{% endif %}{% endif %}"
)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny")
    tiny_model.create(directory)
    configuration = directory / "tokenizer_config.json"
    configuration.write_text(json.dumps(json.loads(configuration.read_text()) | {"chat_template": CHAT_TEMPLATE}))
    return directory


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(
        model,
        tmp_path_factory.mktemp("server") / "log",
        MAX_RUNNING_REQUESTS="4",
        MAX_WAITING_REQUESTS="2",
        MAX_BODY_BYTES="200000",
        MAX_N="4",
        MAX_STOPS="4",
        MAX_TOP_LOGPROBS="5",
        MAX_PROMPTS="8",
    )
    yield process
    process.close()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made
