"""Choosing the next tokens of a step from the model's scores, each request by its own rules and its own chance."""

import os
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from service.engine.grammar import Matcher
from service.engine.request import Sampling, TokenLogprob

SEED_BYTES = 8
# Nearly every top-p set lies within the first of these: sorting so few instead of the vocabulary is many times faster.
# Where they do not hold it, the next number of candidates is tried, and at last all.
CANDIDATES = (256, 4096)
# Drawing from the whole vocabulary looks for the block first and then within it.
BLOCK = 128
HIDDEN = float("-inf")


@dataclass(frozen=True)
class Choice:
    token: int
    logprob: TokenLogprob | None = None


class Chooser:
    """What choosing depends on in one request, besides the scores: its options, its tokens so far and its random numbers.

    One number is drawn per token, so what else runs changes nothing.
    """

    def __init__(
        self, sampling: Sampling, prompt: Sequence[int], end_tokens: frozenset[int], grammar: Matcher | None = None
    ) -> None:
        self.sampling = sampling
        self.grammar = grammar
        seed = sampling.seed if sampling.seed is not None else int.from_bytes(os.urandom(SEED_BYTES), "little")
        self._random = random.Random(seed % 2 ** (8 * SEED_BYTES))
        self._prompt = frozenset(prompt) if sampling.repetition_penalty != 1 else frozenset()
        self._generated: Counter[int] = Counter()
        self._count = 0
        self._too_early = sorted(sampling.stop_token_ids | (frozenset() if sampling.ignore_eos else end_tokens))
        self._counts = bool(sampling.presence_penalty or sampling.frequency_penalty)
        self.adjusts = (
            self._counts
            or sampling.repetition_penalty != 1
            or bool(sampling.logit_bias)
            or sampling.min_tokens > 0
            or grammar is not None
        )

    def adjust(self, scores: torch.Tensor) -> None:
        """Changes one row of scores, in place, as transformers' processors of these names do, and vLLM's."""
        options = self.sampling
        if options.repetition_penalty != 1:
            seen = _ids(self._prompt | self._generated.keys(), scores)
            values = scores[seen]
            penalty = options.repetition_penalty
            scores[seen] = torch.where(values < 0, values * penalty, values / penalty)
        if self._counts and self._generated:
            seen = _ids(self._generated, scores)
            counts = torch.tensor(list(self._generated.values()), dtype=scores.dtype, device=scores.device)
            scores[seen] -= counts * options.frequency_penalty + options.presence_penalty
        if options.logit_bias:
            bias = torch.tensor(list(options.logit_bias.values()), dtype=scores.dtype, device=scores.device)
            scores[_ids(options.logit_bias, scores)] += bias
        if self._count < options.min_tokens and self._too_early:
            scores[_ids(self._too_early, scores)] = HIDDEN
        if self.grammar is not None:
            self.grammar.constrain(scores)

    def chance(self) -> float:
        """The next random number, in [0, 1)."""
        return self._random.random()

    def accept(self, token: int) -> None:
        """The token has been chosen."""
        self._count += 1
        if self._counts or self.sampling.repetition_penalty != 1:
            self._generated[token] += 1
        if self.grammar is not None:
            self.grammar.accept(token)


@torch.inference_mode()
def choose(scores: torch.Tensor, choosers: Sequence[Chooser]) -> list[Choice | Exception]:
    """One choice per row of ``scores`` (rows, vocabulary; float32; changed in place), or why there is none.

    What goes wrong with one row is an exception in its place; the others are chosen.
    """
    results: list[Choice | Exception | None] = [None] * len(choosers)
    wanted = [row for row, chooser in enumerate(choosers) if chooser.sampling.top_logprobs is not None]
    logs = torch.log_softmax(scores[wanted], -1) if wanted else scores
    for row, chooser in enumerate(choosers):
        if chooser.adjusts:
            try:
                chooser.adjust(scores[row])
            except Exception as error:
                results[row] = error
    tokens = _tokens(scores, choosers)
    for row, (chooser, token) in enumerate(zip(choosers, tokens, strict=True)):
        if results[row] is not None:
            continue
        try:
            if token is None:
                raise ValueError("the model's scores are not numbers, or no token is allowed")
            logprob = _logprob(logs[wanted.index(row)], token, chooser.sampling) if row in wanted else None
            chooser.accept(token)
            results[row] = Choice(token, logprob)
        except Exception as error:
            results[row] = error
    return [result for result in results if result is not None]


def _tokens(scores: torch.Tensor, choosers: Sequence[Chooser]) -> list[int | None]:
    """A token for every row; None where the scores leave none."""
    best, greedy = scores.max(-1)
    tokens: list[int | None] = [
        token if usable else None for token, usable in zip(greedy.tolist(), best.isfinite().tolist(), strict=True)
    ]
    drawn = [
        row for row, chooser in enumerate(choosers) if chooser.sampling.temperature > 0 and tokens[row] is not None
    ]
    few = [row for row in drawn if choosers[row].sampling.top_k or choosers[row].sampling.top_p < 1]
    for rows, draw in ((few, _draw_from_candidates), ([row for row in drawn if row not in few], _draw_from_all)):
        if rows:
            options = _Options.of([choosers[row] for row in rows], scores.device)
            picked = scores if len(rows) == len(choosers) else scores[rows]
            weights = torch.softmax(picked / options.temperature, -1)
            for row, token in zip(rows, draw(weights, options).tolist(), strict=True):
                tokens[row] = token
    return tokens


@dataclass(frozen=True, kw_only=True)
class _Options:
    """One column per option, one row per request."""

    temperature: torch.Tensor
    top_p: torch.Tensor
    top_k: torch.Tensor
    min_p: torch.Tensor
    chance: torch.Tensor

    @classmethod
    def of(cls, choosers: Sequence[Chooser], device: torch.device) -> "_Options":
        def column(values: list[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.tensor(values, dtype=dtype, device=device).unsqueeze(1)

        options = [chooser.sampling for chooser in choosers]
        return cls(
            temperature=column([one.temperature for one in options]),
            top_p=column([one.top_p for one in options]),
            top_k=column([one.top_k for one in options], torch.int64),
            min_p=column([one.min_p for one in options]),
            chance=column([chooser.chance() for chooser in choosers], torch.float64),
        )

    def __getitem__(self, rows: torch.Tensor) -> "_Options":
        return _Options(**{name: column[rows] for name, column in vars(self).items()})


def _draw_from_all(weights: torch.Tensor, options: _Options) -> torch.Tensor:
    """Tokens (rows,) drawn from all whose weight is at least min-p of the greatest."""
    if bool((options.min_p > 0).any()):
        weights = weights.where(weights >= options.min_p * weights.amax(-1, keepdim=True), 0)
    blocks = functional.pad(weights, (0, -weights.shape[-1] % BLOCK)).view(len(weights), -1, BLOCK)
    sums = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    target = options.chance * sums[:, -1:]
    block = _first_above(sums, target)
    before = functional.pad(sums, (1, 0)).gather(1, block)
    within = blocks.gather(1, block.unsqueeze(-1).expand(-1, -1, BLOCK)).squeeze(1).double().cumsum(-1)
    return (block * BLOCK + _first_above(within, target - before)).squeeze(1)


def _draw_from_candidates(weights: torch.Tensor, options: _Options) -> torch.Tensor:
    """Tokens (rows,) drawn from what top-k, of that top-p, and of that min-p leave."""
    vocabulary = weights.shape[-1]
    tokens = torch.zeros(len(weights), dtype=torch.int64, device=weights.device)
    open_rows = torch.arange(len(weights), device=weights.device)
    for count in (*(count for count in CANDIDATES if count < vocabulary), vocabulary):
        best, names = weights.topk(count)
        sums = best.cumsum(-1, dtype=torch.float64)
        some = options.top_k > 0
        last = torch.where(some, options.top_k.clamp(max=count), count) - 1
        mass = torch.where(some, sums.gather(1, last), weights.sum(-1, keepdim=True, dtype=torch.float64))
        enough = torch.where(some, options.top_k <= count, sums[:, -1:] >= options.top_p * mass) | (count == vocabulary)
        kept = (torch.arange(count, device=best.device) <= last) & (sums - best < options.top_p * mass)
        kept &= best >= options.min_p * best[:, :1]
        sums = (best * kept).cumsum(-1, dtype=torch.float64)
        found = names.gather(1, _first_above(sums, options.chance * sums[:, -1:]))
        done = enough.squeeze(1)
        tokens[open_rows[done]] = found[done].squeeze(1)
        if bool(done.all()):
            break
        open_rows, weights, options = open_rows[~done], weights[~done], options[~done]
    return tokens


def _first_above(sums: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(rows, 1): where the running sums first exceed the target; at the latest where they first reach their total."""
    total = (sums < sums[:, -1:]).sum(-1, keepdim=True)
    return torch.minimum(torch.searchsorted(sums, target, right=True), total)


def _logprob(logs: torch.Tensor, token: int, sampling: Sampling) -> TokenLogprob:
    best, names = logs.topk(min(sampling.top_logprobs or 0, logs.numel()))
    return TokenLogprob(token, logs[token].item(), tuple(zip(names.tolist(), best.tolist(), strict=True)))


def _ids(tokens: Iterable[int], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(list(tokens), dtype=torch.int64, device=like.device)
