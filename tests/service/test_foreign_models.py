"""Models whose files disagree with each other, or want something else than most, behind the real command."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tokenizers import Tokenizer

from service.api import options
from service.api.messages import wants_parts
from tests.service.server import ServerProcess

pytestmark = pytest.mark.slow
UNKNOWN = "<|only the tokenizer knows|>"
HELLO = [{"role": "user", "content": "Say hello"}]


def edited(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Its tokenizer has a token more than the network, its end is none, and its defaults are no values of the API."""
    directory = Path(shutil.copytree(model, tmp_path_factory.mktemp("foreign") / "model"))
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.add_special_tokens([UNKNOWN])
    tokenizer.save(str(directory / "tokenizer.json"))
    edited(
        directory / "generation_config.json",
        lambda own: (
            own | {"eos_token_id": [own["eos_token_id"], -1, 10**6], "repetition_penalty": 0.0, "temperature": 5.0}
        ),
    )
    parts = (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] }}"
        "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    )
    edited(directory / "tokenizer_config.json", lambda own: own | {"chat_template": parts})
    process = ServerProcess(directory, tmp_path_factory.mktemp("log") / "log")
    yield process
    process.close()


def post(server: ServerProcess, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, timeout=60)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"prompt": f"a {UNKNOWN}"}, "prompt"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": UNKNOWN}]}, "messages"),
    ],
)
def test_token_that_only_the_tokenizer_knows_is_the_clients_error(
    server: ServerProcess, path: str, body: dict[str, Any], param: str
) -> None:
    answer = post(server, path, {**body, "max_tokens": 2})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_defaults_that_no_request_may_send_are_left_aside(server: ServerProcess) -> None:
    answer = post(server, "/v1/chat/completions", {"messages": HELLO, "max_tokens": 4})
    assert answer.status_code == 200, answer.text
    told = [json.loads(line)["message"] for line in server.log.read_text().splitlines()]
    assert sum("left aside" in line for line in told) == 2


def test_structure_ends_with_an_end_that_the_tokenizer_knows(server: ServerProcess) -> None:
    body = {"messages": HELLO, "max_tokens": 20, "guided_choice": ["yes", "no"]}
    choice = post(server, "/v1/chat/completions", body).json()["choices"][0]
    assert choice["message"]["content"] in ("yes", "no")
    assert choice["finish_reason"] == "stop"


def test_template_that_wants_parts_gets_them(server: ServerProcess) -> None:
    text = "Say hello"
    plain, parts = (
        post(server, "/tokenize", {"messages": [{"role": "user", "content": content}]}).json()["tokens"]
        for content in (text, [{"type": "text", "text": text}])
    )
    said = post(server, "/detokenize", {"tokens": plain}).json()["prompt"]
    assert plain == parts
    assert text in said


def test_other_templates_get_texts() -> None:
    class Refusing:
        chat_template = "x"

        def apply_chat_template(self, *_: Any, **__: Any) -> str:
            raise ValueError("a template of its own mind")

    assert not wants_parts(Refusing())


def test_defaults_of_a_model_are_those_of_requests() -> None:
    class Generation:
        def to_diff_dict(self) -> dict[str, Any]:
            return {"temperature": 0.6, "top_k": 20, "top_p": 1.5, "min_p": None, "max_new_tokens": 5}

    assert options.model_defaults(Generation()) == {"temperature": 0.6, "top_k": 20}
