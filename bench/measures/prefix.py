"""How much of a prompt that many share is computed again for each of them."""

import asyncio
from dataclasses import dataclass

from bench.client import Client
from bench.drive import Driver
from bench.measures.setting import Report, Samples, Setting, alike, closed_loop, follow, prompts
from bench.processes import serving

SHARE = "prompt tokens computed per token sent"
SHARED_TOKENS, TAIL_TOKENS = 1000, 20
OUTPUT_TOKENS = 16
REQUESTS = 32
HITS = "vllm:prefix_cache_hits_total"  # prompt tokens that were found and not computed


@dataclass(frozen=True, kw_only=True)
class SharedPrefix:
    """One request with the common beginning, then all the others at the same time."""

    async def measure(self, setting: Setting, report: Report) -> Samples:
        shares = []
        with serving(setting.ours("float32"), setting.log("ours")) as server:
            for run in range(1, setting.runs + 1):
                report(f"run {run} of {setting.runs}")
                driver = Driver(
                    client=Client(server.target()),
                    prompts=prompts(run, SHARED_TOKENS),
                    progress=follow(REQUESTS),
                    leave=asyncio.get_running_loop().create_future(),
                )
                length = SHARED_TOKENS + TAIL_TOKENS
                await closed_loop(driver, alike(1, length, OUTPUT_TOKENS), 1)
                hits = server.metric(HITS)
                outcomes = await closed_loop(driver, alike(REQUESTS, length, OUTPUT_TOKENS), REQUESTS)
                hits = server.metric(HITS) - hits
                shares.append(1 - hits / sum(outcome.prompt_tokens for outcome in outcomes))
        return {SHARE: shares}
