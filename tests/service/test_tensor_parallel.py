"""The real server, with its model divided between two processes of the same machine."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.server import POLL_SECONDS, ServerProcess

RANKS = 2
# torch's launcher gives the others half a minute before it kills them.
END_SECONDS = 40
GONE_SECONDS = 5
# Of float32, after sums in another order.
LOGPROB_TOLERANCE = 1e-3
# Longer than a page of the prefix cache, and its beginning is everybody's.
BEGINNING = (
    "Kubernetes places the pods, Prometheus counts what they do, and the autoscaler asks how much work is waiting. "
)
PROMPTS = ("", "Say hello", "Count to ten", "Tell a story about a lighthouse", "Name the colours of the rainbow. " * 12)
ENDLESS: dict[str, Any] = {"prompt": BEGINNING, "max_tokens": 1500, "ignore_eos": True, "stream": True}


def divided(model: Path, log: Path, drain_seconds: int = 30) -> ServerProcess:
    return ServerProcess(
        model,
        log,
        TENSOR_PARALLEL=str(RANKS),
        MAX_RUNNING_REQUESTS="4",
        MAX_WAITING_REQUESTS="100",
        DRAIN_TIMEOUT_SECONDS=str(drain_seconds),
    )


def followers(server: ServerProcess) -> list[int]:
    """The ids of the processes that answer nobody."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    ranks = {process: Path(f"/proc/{process}/environ").read_bytes().split(b"\0") for process in children}
    return [int(process) for process, variables in ranks.items() if b"RANK=1" in variables]


@pytest.fixture(scope="module")
def both(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """An undivided server and a divided one, of the same model."""
    directory = tmp_path_factory.mktemp("divided")
    alone = ServerProcess(model, directory / "alone", MAX_RUNNING_REQUESTS="4", MAX_WAITING_REQUESTS="100")
    together = divided(model, directory / "divided")
    (follower,) = followers(together)
    yield alone, together
    alone.close()
    together.close()  # kills the first process, and the system the others with it
    deadline = time.monotonic() + GONE_SECONDS
    while Path(f"/proc/{follower}").exists():
        assert time.monotonic() < deadline, "a process of the divided server is left behind"
        time.sleep(POLL_SECONDS)


async def answers(server: ServerProcess) -> list[dict[str, Any]]:
    """All prompts at once, twice, beside a stream whose client leaves."""
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:

        async def ask(prompt: str) -> dict[str, Any]:
            options = {"max_tokens": 24, "temperature": 0, "logprobs": 1, "ignore_eos": True}
            answer = await client.post("/v1/completions", json={"prompt": BEGINNING + prompt, **options})
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

        async with client.stream("POST", "/v1/completions", json=ENDLESS) as stream:
            await anext(stream.aiter_lines())
            first = await asyncio.gather(*map(ask, PROMPTS))
        return [*first, *await asyncio.gather(*map(ask, PROMPTS))]


def test_divided_server_answers_as_an_undivided_one(both: tuple[ServerProcess, ServerProcess]) -> None:
    expected, found = (asyncio.run(answers(server)) for server in both)
    for wanted, answer in zip(expected, found, strict=True):
        (wanted_choice,), (choice,) = wanted["choices"], answer["choices"]
        assert choice["text"] == wanted_choice["text"]
        assert choice["logprobs"]["tokens"] == wanted_choice["logprobs"]["tokens"]
        assert choice["logprobs"]["token_logprobs"] == pytest.approx(
            wanted_choice["logprobs"]["token_logprobs"], abs=LOGPROB_TOLERANCE
        )
    assert len({answer["choices"][0]["text"] for answer in found}) > 1
    assert all(answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in found[len(PROMPTS) :])
    for server in both:
        server.wait_for(lambda server=server: server.metric("vllm:num_requests_running") == 0)  # type: ignore[misc]
    assert both[1].metric("vllm:prefix_cache_hits_total") > 0


def test_log_is_rank_0s_and_of_json(both: tuple[ServerProcess, ServerProcess]) -> None:
    _, together = both
    lines = [json.loads(line)["message"] for line in together.log.read_text().splitlines()]
    assert sum("serving tiny" in line for line in lines) == 1
    assert together.errors.read_text() == ""


def test_sigterm_lets_a_stream_end(model: Path, tmp_path: Path) -> None:
    server = divided(model, tmp_path / "log", drain_seconds=60)
    try:
        (follower,) = followers(server)
        with httpx.stream(
            "POST", f"{server.url}/v1/completions", json={**ENDLESS, "max_tokens": 60}, timeout=60
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.terminate()
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        assert server.process.wait(20) == 0
        assert not Path(f"/proc/{follower}").exists()
        assert server.errors.read_text() == ""
    finally:
        server.close()


def test_end_of_one_process_is_the_end_of_all(model: Path, tmp_path: Path) -> None:
    server = divided(model, tmp_path / "log")
    try:
        (follower,) = followers(server)
        with httpx.stream("POST", f"{server.url}/v1/completions", json=ENDLESS, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            os.kill(follower, signal.SIGKILL)
            assert not [line for line in lines if line == "data: [DONE]"]
        assert server.process.wait(END_SECONDS) == 1
        assert "rank 1 was ended by SIGKILL" in server.errors.read_text()
    finally:
        server.close()


def test_model_that_cannot_be_divided_is_refused_by_name(model: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    for file in model.iterdir():
        (odd / file.name).symlink_to(file)
    config = json.loads((model / "config.json").read_text())
    (odd / "config.json").unlink()
    (odd / "config.json").write_text(json.dumps({**config, "num_key_value_heads": 1}))
    server = ServerProcess(odd, tmp_path / "log", ready=False, TENSOR_PARALLEL=str(RANKS))
    try:
        assert server.process.wait(END_SECONDS) == 1
        assert "TENSOR_PARALLEL=2: does not divide the 1 key-value heads of this qwen3" in server.errors.read_text()
    finally:
        server.close()
