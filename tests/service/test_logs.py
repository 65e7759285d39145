"""What the log says, and what it does not."""

import json

import httpx
import openai
import pytest

from tests.service.server import ServerProcess

SECRET = "the secret of the lighthouse"


def lines(server: ServerProcess) -> list[dict[str, object]]:
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def test_every_line_is_json_with_the_id_of_its_request_and_no_prompt(
    server: ServerProcess, client: openai.OpenAI
) -> None:
    messages = [{"role": "user", "content": SECRET}]
    good = {"messages": messages, "max_tokens": 3, "ignore_eos": True}
    headers = {"x-request-id": "good-1", "authorization": "Bearer a-key-of-somebody"}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=good, headers=headers, timeout=60)
    assert answer.status_code == 200
    bad = {"messages": messages, "temperature": 9, "stop": [SECRET]}
    httpx.post(f"{server.url}/v1/chat/completions", json=bad, headers={"x-request-id": "bad-1"})
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")
    server.get("/health")

    found = {line.get("request_id"): line for line in lines(server) if line["message"] == "request"}
    assert (found["good-1"]["status"], found["good-1"]["completion_tokens"]) == (200, 3)
    assert found["good-1"]["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]
    assert (found["bad-1"]["status"], found["bad-1"]["path"]) == (400, "/v1/chat/completions")
    assert "/health" not in {line["path"] for line in found.values()}
    log = server.log.read_text()
    assert SECRET not in log
    assert "a-key-of-somebody" not in log
