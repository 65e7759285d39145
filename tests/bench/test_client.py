"""The client reads what servers stream, counts what they count, and names how they fail."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bench.client import CONNECT, CUT_OFF, LEFT, OK, REFUSED, TIMEOUT, Client, Endpoint, Outcome, Target
from bench.drive import run
from tests.bench.fake_server import (
    BREAKS,
    BUSY,
    ENDS_EARLY,
    HANGS,
    OVERHEAD_TOKENS,
    TOKENS_PER_WORD,
    FakeServer,
    serving,
)  # fmt: skip


def against(server: FakeServer, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
    async def main() -> Outcome:
        async with serving(server):
            return await work()

    return run(main())


def ask(server: FakeServer, prompt: str, tokens: int = 5, **target: object) -> Outcome:
    return against(
        server, lambda: Client(Target(url=server.url, model="m", **target)).ask(prompt, tokens)  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_answer_is_read_to_its_end(endpoint: Endpoint) -> None:
    server = FakeServer(token_seconds=0.01, first_seconds=0.1)
    outcome = ask(server, "one two three", endpoint=endpoint, api_key="k", options={"temperature": 0})
    assert (outcome.error, outcome.finish_reason) == (OK, "length")
    assert (outcome.prompt_tokens, outcome.output_tokens) == (3 * TOKENS_PER_WORD + OVERHEAD_TOKENS, 5)
    assert len(outcome.pieces_at) == 5
    assert 0.1 <= outcome.first_token < outcome.latency
    assert all(gap >= 0.009 for gap in outcome.gaps)
    assert outcome.time_per_token == pytest.approx(sum(outcome.gaps) / 4)
    (body,) = server.asked
    assert (body["model"], body["max_tokens"], body["stream"], body["temperature"]) == ("m", 5, True, 0)
    assert server.headers[0]["authorization"] == "bearer k"  # the fake reads headers in small letters


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [(BUSY, "HTTP 429", "queue is full"), (BREAKS, REFUSED, "engine failed"), (ENDS_EARLY, CUT_OFF, "")],
)
def test_failures_are_told_apart(prompt: str, error: str, message: str) -> None:
    outcome = ask(FakeServer(), prompt)
    assert outcome.error == error
    assert message in outcome.message


def test_silence_is_a_timeout() -> None:
    assert ask(FakeServer(), HANGS, timeout=0.1).error == TIMEOUT


def test_nobody_there_is_its_own_failure() -> None:
    async def main() -> Outcome:
        async with serving(FakeServer()) as server:
            client = Client(Target(url=server.url, model="m"))
        return await client.ask("x", 1)

    assert run(main()).error == CONNECT


def test_leaving_ends_an_answer_at_once_and_closes_its_connection() -> None:
    server = FakeServer(token_seconds=0.01)

    async def main() -> Outcome:
        loop = asyncio.get_running_loop()
        leave: asyncio.Future[None] = loop.create_future()
        loop.call_later(0.1, leave.set_result, None)
        async with serving(server):
            outcome = await Client(Target(url=server.url, model="m")).ask("x", 10_000, leave=leave)
            async with asyncio.timeout(5):
                await server.idle.wait()
            return outcome

    outcome = run(main())
    assert outcome.error == LEFT
    assert 0 < len(outcome.pieces_at) < 10_000


def test_wrong_url_is_refused_by_its_value() -> None:
    with pytest.raises(ValueError, match="localhost:8000/v1"):
        Client(Target(url="localhost:8000", model="m"))
