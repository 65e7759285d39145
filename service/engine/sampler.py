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
# Nearly every top-p set lies within so many tokens: sorting these instead of the vocabulary is many times faster.
CANDIDATES = 256
# How often a token is drawn from the whole vocabulary before it is sorted after all.
DRAWS = 16
# Drawing from the whole vocabulary looks for the block first and then within it.
BLOCK = 128
HIDDEN = float("-inf")
# Rows of scores, each as long as the vocabulary, of which there are logarithms of probabilities at one time.
ROWS = 16


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


@torch.inference_mode()
def logprobs(scores: torch.Tensor, tokens: Sequence[int], top: int) -> list[TokenLogprob]:
    """Of tokens that are there already, one per row of ``scores`` (rows, vocabulary; of any type), and of the ``top`` likeliest.

    Raises:
        ValueError: the scores are not numbers.
    """
    found: list[TokenLogprob] = []
    for row in range(0, len(tokens), ROWS):
        some = tokens[row : row + ROWS]
        logs = torch.log_softmax(scores[row : row + ROWS].float(), -1)
        own = logs.gather(1, _ids(some, scores).unsqueeze(1))
        if own.isnan().any():
            raise ValueError("the model's scores are not numbers")
        ranks = (logs > own).sum(-1) + 1
        best, names = logs.topk(min(top, logs.shape[-1]))
        rows = zip(some, own.squeeze(1).tolist(), names.tolist(), best.tolist(), ranks.tolist(), strict=True)
        found += [
            TokenLogprob(token, log, tuple(zip(likeliest, theirs, strict=True)), rank)
            for token, log, likeliest, theirs, rank in rows
        ]
    return found


def _tokens(scores: torch.Tensor, choosers: Sequence[Chooser]) -> list[int | None]:
    """A token for every row; None where the scores leave none."""
    best, greedy = scores.max(-1)
    tokens: list[int | None] = [
        token if usable else None for token, usable in zip(greedy.tolist(), best.isfinite().tolist(), strict=True)
    ]
    drawn = [
        row for row, chooser in enumerate(choosers) if chooser.sampling.temperature > 0 and tokens[row] is not None
    ]
    some = [row for row in drawn if choosers[row].sampling.top_k or choosers[row].sampling.top_p < 1]
    for rows, draw in ((some, _draw_from_best), ([row for row in drawn if row not in some], _draw_from_all)):
        if rows:
            drawing = _Drawing.of(
                scores if len(rows) == len(choosers) else scores[rows], [choosers[row] for row in rows]
            )
            for row, token in zip(rows, draw(drawing).tolist(), strict=True):
                tokens[row] = token
    return tokens


@dataclass(frozen=True, kw_only=True)
class _Drawing:
    """Rows to draw a token for: their weights (rows, vocabulary), and a column (rows, 1) per option."""

    choosers: Sequence[Chooser]
    weights: torch.Tensor
    top_p: torch.Tensor
    top_k: torch.Tensor
    floor: torch.Tensor  # the least weight that min-p allows

    @classmethod
    def of(cls, scores: torch.Tensor, choosers: Sequence[Chooser]) -> "_Drawing":
        def column(values: list[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.tensor(values, dtype=dtype, device=scores.device).unsqueeze(1)

        options = [chooser.sampling for chooser in choosers]
        weights = torch.softmax(scores / column([one.temperature for one in options]), -1)
        return cls(
            choosers=choosers,
            weights=weights,
            top_p=column([one.top_p for one in options]),
            top_k=column([one.top_k for one in options], torch.int64),
            floor=column([one.min_p for one in options]) * weights.amax(-1, keepdim=True),
        )

    def chance(self) -> torch.Tensor:
        """One random number per row, each from its own source."""
        numbers = [chooser.chance() for chooser in self.choosers]
        return torch.tensor(numbers, dtype=torch.float64, device=self.weights.device).unsqueeze(1)

    def only(self, rows: list[int]) -> "_Drawing":
        return _Drawing(
            choosers=[self.choosers[row] for row in rows],
            weights=self.weights[rows],
            top_p=self.top_p[rows],
            top_k=self.top_k[rows],
            floor=self.floor[rows],
        )


def _draw_from_all(drawing: _Drawing) -> torch.Tensor:
    """Tokens (rows,) drawn from all that min-p leaves: the block of the vocabulary first, then the place in it."""
    weights = drawing.weights
    if any(chooser.sampling.min_p for chooser in drawing.choosers):
        weights = weights.where(weights >= drawing.floor, 0)
    blocks = functional.pad(weights, (0, -weights.shape[-1] % BLOCK)).view(len(weights), -1, BLOCK)
    sums = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    target = drawing.chance() * sums[:, -1:]
    block = _first_above(sums, target)
    before = functional.pad(sums, (1, 0)).gather(1, block)
    within = blocks.gather(1, block.unsqueeze(-1).expand(-1, -1, BLOCK)).squeeze(1).double().cumsum(-1)
    return (block * BLOCK + _first_above(within, target - before)).squeeze(1)


def _draw_from_best(drawing: _Drawing) -> torch.Tensor:
    """Tokens (rows,) drawn from what top-k, of that top-p, and min-p leave; exact, with as few sorted as will do."""
    vocabulary = drawing.weights.shape[-1]
    count = min(vocabulary, max(CANDIDATES, *(chooser.sampling.top_k for chooser in drawing.choosers), 1))
    best, names = drawing.weights.topk(count)
    sums = best.cumsum(-1, dtype=torch.float64)
    limited = drawing.top_k > 0
    last = torch.where(limited, drawing.top_k.clamp(max=count), count) - 1
    mass = drawing.top_p * torch.where(limited, sums.gather(1, last), drawing.weights.sum(-1, keepdim=True).double())
    kept = (torch.arange(count, device=best.device) <= last) & (sums - best < mass) & (best >= drawing.floor)
    tokens = torch.empty(len(best), dtype=torch.int64, device=best.device)
    enough = (limited | (sums[:, -1:] >= mass)).squeeze(1).tolist()
    rows = [row for row, is_enough in enumerate(enough) if is_enough or count == vocabulary]
    if rows:
        sums = (best * kept)[rows].cumsum(-1, dtype=torch.float64)
        tokens[rows] = names[rows].gather(1, _first_above(sums, drawing.only(rows).chance() * sums[:, -1:])).squeeze(1)
    if rest := [row for row in range(len(best)) if row not in rows]:
        tokens[rest] = _draw_until_likely(drawing.only(rest))
    return tokens


def _draw_until_likely(drawing: _Drawing) -> torch.Tensor:
    """Tokens (rows,) within top-p, where it takes too many to sort: from all, again until the drawn one is among them.

    A token is if those more likely than it do not add up to top-p. A draw is with a probability of top-p at least.
    """
    tokens = torch.empty(len(drawing.weights), dtype=torch.int64, device=drawing.weights.device)
    rows = list(range(len(tokens)))
    for _ in range(DRAWS):
        drawn = _draw_from_all(drawing).unsqueeze(1)
        likelier = drawing.weights.where(drawing.weights > drawing.weights.gather(1, drawn), 0)
        found = (likelier.sum(-1, keepdim=True) < drawing.top_p * drawing.weights.sum(-1, keepdim=True)).squeeze(1)
        tokens[rows] = drawn.squeeze(1)
        missed = (~found).nonzero().flatten().tolist()
        if not missed:
            break
        rows, drawing = [rows[index] for index in missed], drawing.only(missed)
    else:
        best, names = drawing.weights.sort(descending=True)
        sums = best.cumsum(-1, dtype=torch.float64)
        sums = (best * (sums - best < drawing.top_p * sums[:, -1:]) * (best >= drawing.floor)).cumsum(-1)
        tokens[rows] = names.gather(1, _first_above(sums, drawing.chance().to(sums.dtype) * sums[:, -1:])).squeeze(1)
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
