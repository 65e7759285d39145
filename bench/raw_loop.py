"""The model's own forward passes in a loop, with nothing around them. `python -m bench.raw_loop MODEL DTYPE LAYERS`.

LAYERS: `transformers` for its linear layers, `engine` for those that our engine has in their place.

Reads a job a line from standard input, writes its figures as a line to standard output. A process of its own, and one thread:
where two threads compute, each is slower.
"""

import json
import sys
from dataclasses import asdict
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache, StaticCache

from bench.raw import Figures, Job
from service.engine import linear

SEED = 3


class RawLoop:
    """A loaded model."""

    def __init__(self, model: str, dtype: str, layers: str = "transformers") -> None:
        self._network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
        if layers == "engine":
            linear.reorder(self._network)

    @torch.inference_mode()
    def run(self, job: Job) -> Figures:
        """Does the job; each batch has prompts of its own."""
        random = torch.Generator().manual_seed(SEED)
        seconds = 0.0
        steps: list[float] = []
        for _ in range(job.batches):
            shape = (job.batch, job.prompt_tokens)
            prompts = torch.randint(self._network.config.vocab_size, shape, generator=random)
            times = self._generate(prompts, job)
            seconds += times[-1] - times[0]
            steps += (later - earlier for earlier, later in pairwise(times[1:]))
        return Figures(seconds=seconds, step_seconds=median(steps))

    def tokens(self, prompts: torch.Tensor, job: Job) -> torch.Tensor:
        """What the loop generates, (batch, output tokens)."""
        generated: list[torch.Tensor] = []
        self._generate(prompts, job, generated)
        return torch.cat(generated, dim=1)

    @torch.inference_mode()
    def _generate(self, prompts: torch.Tensor, job: Job, generated: list[torch.Tensor] | None = None) -> list[float]:
        """The times at the start and after each pass."""
        config = self._network.config
        length = job.prompt_tokens + job.output_tokens
        cache = (
            StaticCache(config=config, max_cache_len=length) if job.cache == "static" else DynamicCache(config=config)
        )
        times = [perf_counter()]
        tokens = prompts
        for _ in range(job.output_tokens):
            result = self._network(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
            tokens = result.logits[:, -1:].argmax(dim=-1)
            times.append(perf_counter())
            if generated is not None:
                generated.append(tokens)
        return times


def main(model: str, dtype: str, layers: str) -> None:
    loop = RawLoop(model, dtype, layers)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(loop.run(Job(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
