"""One of several ranks: `torchrun --nproc-per-node N -m tests.service.engine.divided REQUEST.json`.

The request has directories of models and prompts; rank 0 writes the answers, or why there are none, beside the request.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from service import launcher
from service.engine import division
from service.engine.gate import UnsupportedModelError
from service.engine.kv_cache import KvCache
from service.engine.ranks import Ranks
from service.engine.runner import Runner
from tests.service.engine.networks import CONTEXT, Packed, answers

REGION_TOKENS, PAGES = 16 * CONTEXT, 40


def answer(directory: str, prompts: list[list[int]], count: int, ranks: Ranks) -> list[list[int]]:
    config = AutoConfig.from_pretrained(directory)
    options = division.loading_options(config, ranks)
    made: Any = AutoModelForCausalLM.from_pretrained(directory, config=config, dtype="float32", **options)
    packed = Packed.of(made.eval(), divided=ranks.several)
    if ranks.rank:
        cache = KvCache(region_tokens=REGION_TOKENS, page_count=PAGES, context_tokens=CONTEXT, smallest_region=16)
        runner = Runner(packed.network, cache, packed.shapes, share=ranks.share)
        while (batch := ranks.hear()) is not None:
            runner.follow(batch)
        return []
    run = packed.run(
        prompts,
        count,
        step_tokens=48,
        chunk_tokens=7,
        max_running=4,
        every=2,
        region_tokens=REGION_TOKENS,
        page_count=PAGES,
        announce=ranks.tell,
        share=ranks.share,
        overlap=True,
    )
    assert any(sequence.cached_tokens for sequence in run)
    ranks.dismiss()
    return answers(run)


def main() -> None:
    launcher.become_rank()
    torch.set_num_threads(1)
    file = Path(sys.argv[1])
    request = json.loads(file.read_text())
    ranks = Ranks.join(request["ranks"], "cpu")
    said: dict[str, list[list[int]] | str] = {}
    for directory in request["directories"]:
        try:
            said[directory] = answer(directory, request["prompts"], request["count"], ranks)
        except UnsupportedModelError as error:
            said[directory] = str(error)
    ranks.leave()
    if ranks.rank == 0:
        file.with_name("answers.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
