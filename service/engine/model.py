"""A causal language model of transformers: its files, its limits, and the memory it leaves for requests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from service.engine import checkpoint, division, gate, graphs, memory, rotary
from service.engine.attention import Shapes
from service.engine.grammar import Grammars
from service.engine.kv_cache import KvCache
from service.engine.progress import bars
from service.engine.ranks import ALONE, Ranks
from service.engine.request import Sampling
from service.engine.runner import Runner
from service.engine.sampler import Chooser, draw
from service.engine.scheduler import SCORED_TOKENS, Scheduler, Sequence
from service.engine.text import Decoder
from service.settings import Settings

MEBIBYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """Weights, tokenizer and limits."""

    network: Any  # a PreTrainedModel of whatever architecture the files name, with packed attention
    shapes: Shapes
    tokenizer: Any
    grammars: Grammars
    device: torch.device
    context_tokens: int
    end_tokens: frozenset[int]
    ranks: Ranks

    @classmethod
    def load(cls, settings: Settings, report: Callable[[str], None], ranks: Ranks = ALONE) -> "LanguageModel":
        """Loads what the settings name, from a directory or the hub; safetensors weights only, and no code of the model's own.

        Of several ranks each does so, all together, and gets its part of the weights.

        Raises:
            OSError, ValueError: from transformers, for files that are missing or wrong, and here for a GPU that is not there.
            UnsupportedModelError: the engine cannot run this architecture, or the files do not make a whole model.
        """
        device = ranks.device(device_type(settings.device))
        directory = ranks.after_first(lambda: checkpoint.locate(settings, report))
        report("reading tokenizer and configuration")
        config = checkpoint.read_config(directory)
        tokenizer = checkpoint.read_tokenizer(directory)
        made_for = checkpoint.longest(config)
        if settings.max_model_len is not None and settings.max_model_len > made_for:
            raise ValueError(
                f"MAX_MODEL_LEN={settings.max_model_len}: the model was made for at most {made_for} tokens"
            )
        options = division.loading_options(config, ranks)
        report("loading weights")
        transformers_logging.set_tqdm_hook(lambda _, args, kwargs: bars(report)(*args, **kwargs))
        try:
            network = checkpoint.read_network(directory, config, dtype=settings.dtype, **options)
        finally:
            transformers_logging.set_tqdm_hook(None)
        network.eval()
        if not ranks.several:
            network.to(device)  # where each rank's part already is
        ranks.meet()
        context_tokens = settings.max_model_len or made_for
        rotary.settle(network, context_tokens)
        report("comparing the packed forward pass with transformers' own")
        shapes = gate.check(network, divided=ranks.several)
        end_tokens = _end_tokens(network, tokenizer)
        report("preparing grammars for the vocabulary")
        return cls(
            network=network,
            shapes=shapes,
            tokenizer=tokenizer,
            grammars=Grammars(tokenizer, end_tokens),
            device=device,
            context_tokens=context_tokens,
            end_tokens=end_tokens,
            ranks=ranks,
        )

    @property
    def architecture(self) -> str:
        """The name of the network's class."""
        return type(self.network).__name__

    @property
    def vocabulary(self) -> int:
        """Tokens that the network knows."""
        size: int = self.network.get_input_embeddings().num_embeddings
        return size

    @property
    def chat_template(self) -> str | None:
        template: str | None = self.tokenizer.chat_template
        return template

    @property
    def decoder(self) -> Decoder:
        """Turns tokens into text; the tokenizer's inner part where it has one, which is ten times faster than its outer."""
        decoder: Decoder = getattr(self.tokenizer, "backend_tokenizer", None) or self.tokenizer
        return decoder

    def cache(self, settings: Settings, step_tokens: int) -> KvCache:
        """Room for keys and values: as much as is of use, of the memory that is left (or was given).

        Raises:
            ValueError: not even one sequence as long as the context would fit.
        """
        per_token = memory.token_bytes(self.shapes)
        if settings.kv_cache_mib is not None:
            free, share = settings.kv_cache_mib * MEBIBYTE, 1.0
        elif self.device.type == "cuda":
            needed = self._activation_bytes(settings, step_tokens)
            free, share = memory.available(self.device) - needed, memory.CUDA_SHARE
            if settings.records_graphs:
                free -= graphs.reserved_bytes(settings.max_running_requests, self.vocabulary, self.shapes.dtype)
        else:
            free, share = memory.available(self.device) // self.ranks.count, memory.CPU_SHARE
        region_tokens, page_count = memory.plan(
            self.ranks.least(free),  # for the places are the same in all of them
            per_token,
            context_tokens=self.context_tokens,
            max_running=settings.max_running_requests,
            share=share,
        )
        return KvCache(
            region_tokens=region_tokens,
            page_count=page_count,
            context_tokens=self.context_tokens,
            cleared=not self.shapes.paged,  # the kernel is told how long a sequence is
        )

    def warm_up(self, runner: Runner, scheduler: Scheduler) -> None:
        """A prompt and a token, so that the first request does not pay for what is made on first use."""
        sequence = Sequence([0, 0], longest=4)
        scheduler.add(sequence)
        for _ in range(2):
            turns = scheduler.plan()
            runner.run(turns)
            scheduler.advance(turns)
            sequence.tokens.append(0)
        scheduler.remove(sequence, failed=True)

    def _activation_bytes(self, settings: Settings, step_tokens: int) -> int:
        """What the largest step takes beside the weights, measured by running it: one that tells of as many tokens as it may.

        And one in which as many requests as there may be draw a token.
        """
        context = -(-step_tokens // 256) * 256
        cache = KvCache(region_tokens=2 * context, page_count=0, context_tokens=context)
        runner = Runner(self.network, cache, self.shapes)
        scheduler = Scheduler(cache, max_running=2, step_tokens=step_tokens, chunk_tokens=step_tokens)
        scheduler.add(Sequence([0] * min(step_tokens, SCORED_TOKENS), longest=step_tokens, scores=True))
        scheduler.add(Sequence([0] * step_tokens, longest=step_tokens))
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        runner.run(scheduler.plan())
        drawing = Sampling(max_tokens=1, top_p=0.5, top_logprobs=0)
        choosers = [Chooser(drawing, [], frozenset()) for _ in range(settings.max_running_requests)]
        draw(torch.zeros(len(choosers), self.vocabulary, device=self.device), choosers)
        return torch.cuda.max_memory_allocated(self.device) - before


def device_type(wanted: str) -> str:
    """`cpu` or `cuda`, of what the setting says.

    Raises:
        ValueError: a GPU is wanted, and none is there.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("DEVICE=cuda: no GPU is visible to this process; check the driver and the pod's GPU request")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def _end_tokens(network: Any, tokenizer: Any) -> frozenset[int]:
    """Those that the network can write: some files name others."""
    named = network.generation_config.eos_token_id
    ends = named if isinstance(named, list) else [named]
    vocabulary = network.get_input_embeddings().num_embeddings
    return frozenset(
        token for token in (*ends, tokenizer.eos_token_id) if token is not None and 0 <= token < vocabulary
    )
