"""Whether the server grows: its memory after many requests of every kind, beside that after the first of them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np

from bench.client import LEFT, OK, Client
from bench.measures.setting import Report, Samples, Setting, prompts
from bench.processes import BenchError, Server, serving
from bench.prompts import Lengths

EARLY, LATE = "bytes after the first requests", "bytes after all requests"
EARLY_REQUESTS = 200
CONCURRENCY = 32
PROMPT_TOKENS, OUTPUT_TOKENS = Lengths(low=16, high=512), Lengths(low=1, high=64)
SHARED_TOKENS = 256  # of half of the prompts
LEAVING = 10  # one request in so many is left before its end
LEAVE_SECONDS = 0.3
SETTLE_SECONDS = 2.0

# What requests ask for, in turn. "seed" and the like keep nothing between runs, but each takes its own path in a server.
KINDS: tuple[Mapping[str, object], ...] = (
    {},
    {"temperature": 0.8, "top_p": 0.9, "seed": 1},
    {"temperature": 1.0, "top_k": 50, "presence_penalty": 0.5, "frequency_penalty": 0.5},
    {"logprobs": 5},
    {"stop": ["baba bebe", "zuzu"]},
    {"n": 2, "temperature": 1.0},
    {"repetition_penalty": 1.2, "min_p": 0.05, "temperature": 0.7},
    {"logit_bias": {"300": 5}},
)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """In one life of the server: what is measured is what does not come back."""

    async def measure(self, setting: Setting, report: Report) -> Samples:
        with serving(setting.ours("float32"), setting.log("ours")) as server:
            mix = _Mix(server)
            await mix.send(EARLY_REQUESTS, report, setting.mixed_requests)
            early = server.resident_bytes
            await mix.send(setting.mixed_requests - EARLY_REQUESTS, report, setting.mixed_requests)
            late = server.resident_bytes
        return {EARLY: [float(early)], LATE: [float(late)]}


class _Mix:
    """Requests of every kind and length, each tenth left by its client."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._random = np.random.default_rng(1)
        self._prompts = (prompts(1), prompts(2, SHARED_TOKENS))
        self._numbers = count(1)

    async def send(self, requests: int, report: Report, total: int) -> None:
        """Sends so many more, and lets the server come to rest.

        Raises:
            BenchError: one failed.
        """
        places = asyncio.Semaphore(CONCURRENCY)

        async def one() -> None:
            async with places:
                number = next(self._numbers)
                report(f"{number} of {total} requests")
                await self._ask(number)

        await asyncio.gather(*(one() for _ in range(requests)))
        await asyncio.sleep(SETTLE_SECONDS)

    async def _ask(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        leave: asyncio.Future[None] = loop.create_future()
        if number % LEAVING == 0:
            loop.call_later(LEAVE_SECONDS, leave.set_result, None)
        shared = number % 2
        tokens = PROMPT_TOKENS.draw(self._random) + shared * SHARED_TOKENS
        client = Client(self._server.target(**KINDS[number % len(KINDS)]))
        outcome = await client.ask(self._prompts[shared].text(tokens), OUTPUT_TOKENS.draw(self._random), leave=leave)
        if outcome.error not in (OK, LEFT):
            raise BenchError(f"request {number} failed: {outcome.error} {outcome.message}")
