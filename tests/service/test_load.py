"""Many requests at once: correct, counted, bounded, cancelled."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from service import metric_names
from tests.service.server import ServerProcess

LONG: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Tell a long story"}],
    "max_tokens": 1500,
    "stream": True,
    "ignore_eos": True,
}
CLIENTS = 200


def complete(client: openai.OpenAI, prompt: str, seed: int) -> str:
    answer = client.completions.create(model="tiny", prompt=prompt, max_tokens=20, seed=seed)
    return answer.choices[0].text


def test_answers_do_not_depend_on_what_else_runs(client: openai.OpenAI) -> None:
    work = [(f"Story number {index} {'and then ' * index}", index) for index in range(4)]
    alone = [complete(client, *item) for item in work]
    with ThreadPoolExecutor(len(work)) as pool:
        together = list(pool.map(lambda item: complete(client, *item), work))
    assert together == alone


def idle(server: ServerProcess) -> bool:
    return server.metric(metric_names.REQUESTS_RUNNING) == 0 and server.metric(metric_names.REQUESTS_WAITING) == 0


def test_full_queue_is_429_and_disconnect_frees_every_place(server: ServerProcess) -> None:
    async def crowd() -> None:
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=60) as client,
            openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as official,
        ):

            async def listen() -> None:
                async with client.stream("POST", "/v1/chat/completions", json=LONG) as answer:
                    async for _ in answer.aiter_lines():
                        pass

            listeners = [asyncio.create_task(listen()) for _ in range(6)]
            while server.metric(metric_names.REQUESTS_RUNNING) < 4 or server.metric(metric_names.REQUESTS_WAITING) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            before = server.refused(metric_names.REFUSED_QUEUE_FULL)
            refused = await client.post("/v1/chat/completions", json=LONG)
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "1"
            assert refused.json()["error"]["code"] == "queue_full"
            with pytest.raises(openai.RateLimitError):
                await official.chat.completions.create(model="tiny", messages=LONG["messages"])
            assert server.refused(metric_names.REFUSED_QUEUE_FULL) == before + 2
            for listener in listeners:
                listener.cancel()
            await asyncio.gather(*listeners, return_exceptions=True)

    server.wait_for(lambda: idle(server))
    asyncio.run(crowd())
    server.wait_for(lambda: idle(server))


def test_client_that_leaves_a_whole_answer_frees_its_place(server: ServerProcess) -> None:
    server.wait_for(lambda: idle(server))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/chat/completions", json={**LONG, "stream": False}, timeout=0.3)
    server.wait_for(lambda: idle(server), seconds=5)


def test_clients_that_leave_at_random_leave_nothing_behind(server: ServerProcess) -> None:
    chance = random.Random(1)

    async def one(client: httpx.AsyncClient) -> int:
        body = {**LONG, "stream": chance.random() < 0.7, "n": chance.choice([1, 1, 2])}
        try:
            async with asyncio.timeout(chance.uniform(0, 0.3)):
                return (await client.post("/v1/chat/completions", json=body)).status_code
        except TimeoutError:
            return 0

    async def storm() -> list[int]:
        limits = httpx.Limits(max_connections=40)
        async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
            return await asyncio.gather(*(one(client) for _ in range(CLIENTS)))

    statuses = asyncio.run(storm())
    assert set(statuses) <= {0, 429}
    server.wait_for(lambda: idle(server), seconds=5)
    assert server.metric(metric_names.KV_CACHE_USAGE) == 0
    good = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
    assert httpx.post(f"{server.url}/v1/chat/completions", json=good, timeout=2).status_code == 200


def test_two_requests_with_the_same_id_are_two_requests(server: ServerProcess) -> None:
    def ask(seed: int) -> str:
        body = {"messages": LONG["messages"], "max_tokens": 50, "seed": seed}
        headers = {"x-request-id": "the-same"}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=30)
        text: str = answer.json()["choices"][0]["message"]["content"]
        return text

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(ask, [1, 2, 3]))
    assert len(set(together)) == 3
    assert together == [ask(seed) for seed in (1, 2, 3)]


@pytest.mark.parametrize("read_first", [True, False])
def test_client_that_leaves_a_stream_of_several_prompts_frees_every_place(
    server: ServerProcess, read_first: bool
) -> None:
    server.wait_for(lambda: idle(server))
    body = {"prompt": ["Tell a long story"] * 3, "max_tokens": 1500, "stream": True, "ignore_eos": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as answer:
        lines = answer.iter_lines()
        if read_first:
            next(lines)
        server.wait_for(lambda: server.metric(metric_names.REQUESTS_RUNNING) > 1)
    server.wait_for(lambda: idle(server), seconds=5)


def test_every_metric_is_exposed_with_the_models_name(server: ServerProcess) -> None:
    text = server.get("/metrics").text
    counters = (metric_names.PROMPT_TOKENS, metric_names.GENERATION_TOKENS)
    gauges = (metric_names.REQUESTS_RUNNING, metric_names.REQUESTS_WAITING, metric_names.KV_CACHE_USAGE)
    histograms = (
        metric_names.TIME_TO_FIRST_TOKEN,
        metric_names.INTER_TOKEN_LATENCY,
        metric_names.REQUEST_LATENCY,
        metric_names.QUEUE_TIME,
    )
    label = f'{metric_names.ENGINE_LABEL}="0",{metric_names.MODEL_NAME_LABEL}="tiny"'
    for name in (
        *gauges,
        *(f"{counter}_total" for counter in counters),
        *(f"{histogram}_count" for histogram in histograms),
    ):
        assert f"{name}{{{label}}}" in text
    for reason in ("stop", "length", "abort"):
        assert (
            f'{metric_names.REQUEST_SUCCESS}_total{{{metric_names.ENGINE_LABEL}="0",'
            f'{metric_names.FINISHED_REASON_LABEL}="{reason}",{metric_names.MODEL_NAME_LABEL}="tiny"}}' in text
        )


def test_counters_count_what_was_used(server: ServerProcess, client: openai.OpenAI) -> None:
    server.wait_for(lambda: idle(server))
    names = (f"{metric_names.PROMPT_TOKENS}_total", f"{metric_names.GENERATION_TOKENS}_total")
    before = [server.metric(name) for name in names]
    used = client.completions.create(model="tiny", prompt="Count this", max_tokens=7, seed=1).usage
    assert used is not None
    after = [server.metric(name) for name in names]
    assert [new - old for new, old in zip(after, before, strict=True)] == [used.prompt_tokens, used.completion_tokens]


def test_what_clients_ask_for_is_counted_once_per_prompt(server: ServerProcess, client: openai.OpenAI) -> None:
    names = [
        f"{histogram}_{part}"
        for histogram in (metric_names.REQUEST_N, metric_names.REQUEST_LONGEST_ANSWER)
        for part in ("count", "sum")
    ]
    server.wait_for(lambda: idle(server))
    before = [server.metric(name) for name in names]
    for stream in (False, True):
        answer: Any = client.completions.create(
            model="tiny", prompt=["One", "Two"], n=2, max_tokens=3, stream=stream, extra_body={"ignore_eos": True}
        )
        list(answer)
    server.wait_for(lambda: server.metric(names[0]) == before[0] + 4)
    after = [server.metric(name) for name in names]
    assert [new - old for new, old in zip(after, before, strict=True)] == [4, 8, 4, 12]
