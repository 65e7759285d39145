"""Choosing the next tokens of a step from the model's scores, each request by its own rules and its own chance."""

import math
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from service.engine import transfer
from service.engine.grammar import Matcher
from service.engine.request import GrammarError, Sampling, ScoresError, TokenLogprob

SEED_BYTES = 8
# Nearly every top-p set lies within so many tokens: sorting these instead of the vocabulary is many times faster.
CANDIDATES = 256
# The most likely token of any vocabulary has more, so it is the only one; less may be no number in float32.
LEAST_TOP_P = 1e-6
# How often a token is drawn from the whole vocabulary before those outside top-p are looked for.
DRAWS = 16
# Of a float from 0 to 1, below the sign and the highest bit of the exponent.
WEIGHT_BITS = 30
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

    The numbers are its own, so what else runs changes nothing.
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
            counts = transfer.numbers(list(self._generated.values()), scores.device, scores.dtype)
            scores[seen] -= counts * options.frequency_penalty + options.presence_penalty
        if options.logit_bias:
            bias = transfer.numbers(list(options.logit_bias.values()), scores.device, scores.dtype)
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


class Drawn:
    """A token for each row of a step, chosen on the device; to be read once, before the next step draws."""

    def __init__(
        self,
        choosers: Sequence[Chooser],
        tokens: torch.Tensor,  # (rows,), each one of the vocabulary, whatever the scores were
        best: torch.Tensor,  # (rows,), the highest score
        logs: torch.Tensor | None,  # (rows that want them, vocabulary)
        failed: Mapping[int, Exception],
    ) -> None:
        self.tokens = tokens
        self._choosers = choosers
        self._failed = failed
        likeliest: tuple[torch.Tensor, ...] = ()
        if logs is not None:
            wanted = _telling(choosers)
            most = max(choosers[row].sampling.top_logprobs or 0 for row in wanted)
            own = logs.gather(1, tokens[_ids(wanted, tokens)].unsqueeze(1)).squeeze(1)
            likeliest = (own, *logs.topk(min(most, logs.shape[-1])))
        self._reading = transfer.Reading((tokens, best, *likeliest))

    def read(self) -> list[Choice | Exception]:
        """Waits for the choices: one per row, or why there is none. What goes wrong with one row, goes wrong with it alone."""
        tokens, best, *likeliest = (part.tolist() for part in self._reading.wait())
        told = dict(zip(_telling(self._choosers), zip(*likeliest, strict=True), strict=True))
        results: list[Choice | Exception] = []
        for row, chooser in enumerate(self._choosers):
            try:
                if row in self._failed:
                    raise self._failed[row]
                if not math.isfinite(best[row]):
                    if chooser.grammar is not None and best[row] == HIDDEN:
                        raise GrammarError("no token of the vocabulary can come next")
                    raise ScoresError("the model's scores are not numbers, or no token is allowed")
                chooser.accept(tokens[row])
                results.append(Choice(tokens[row], _logprob(tokens[row], told.get(row), chooser.sampling)))
            except Exception as error:
                results.append(error)
        return results


@torch.inference_mode()
def draw(scores: torch.Tensor, choosers: Sequence[Chooser]) -> Drawn:
    """Launches one choice per row of ``scores`` (rows, vocabulary; float32; changed in place)."""
    failed: dict[int, Exception] = {}
    wanted = _telling(choosers)
    logs = torch.log_softmax(scores[_ids(wanted, scores)], -1) if wanted else None
    for row, chooser in enumerate(choosers):
        if chooser.adjusts:
            try:
                chooser.adjust(scores[row])
            except Exception as error:
                failed[row] = error
    best, likeliest = scores.max(-1)
    try:
        tokens = _choose(scores, likeliest, choosers)
    # One of them is to blame, or all need too much memory at once. Those that had drawn already draw with later numbers.
    except Exception:
        tokens = likeliest.clone()
        for row, chooser in enumerate(choosers):
            own = slice(row, row + 1)
            try:
                tokens[own] = _choose(scores[own], likeliest[own], [chooser])
            except Exception as error:
                failed[row] = error
    return Drawn(choosers, tokens, best, logs, failed)


@torch.inference_mode()
def logprobs(scores: torch.Tensor, tokens: Sequence[int], top: int) -> list[TokenLogprob]:
    """Of tokens that are there already, one per row of ``scores`` (rows, vocabulary; of any type), and of the ``top`` likeliest.

    Raises:
        ScoresError: the scores are not numbers.
    """
    found: list[TokenLogprob] = []
    for row in range(0, len(tokens), ROWS):
        some = tokens[row : row + ROWS]
        logs = torch.log_softmax(scores[row : row + ROWS].float(), -1)
        own = logs.gather(1, _ids(some, scores).unsqueeze(1))
        if own.isnan().any():
            raise ScoresError("the model's scores are not numbers")
        ranks = (logs > own).sum(-1) + 1
        best, names = logs.topk(min(top, logs.shape[-1]))
        rows = zip(some, own.squeeze(1).tolist(), names.tolist(), best.tolist(), ranks.tolist(), strict=True)
        found += [
            TokenLogprob(token, log, tuple(zip(likeliest, theirs, strict=True)), rank)
            for token, log, likeliest, theirs, rank in rows
        ]
    return found


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
            return transfer.numbers(values, scores.device, dtype).unsqueeze(1)

        options = [chooser.sampling for chooser in choosers]
        weights = torch.softmax(scores / column([one.temperature for one in options]), -1)
        return cls(
            choosers=choosers,
            weights=weights,
            top_p=column([max(one.top_p, LEAST_TOP_P) for one in options]),
            top_k=column([one.top_k for one in options], torch.int64),
            floor=column([one.min_p for one in options]) * weights.amax(-1, keepdim=True),
        )

    def chance(self) -> torch.Tensor:
        """One random number per row, each from its own source."""
        chances = [chooser.chance() for chooser in self.choosers]
        return transfer.numbers(chances, self.weights.device, torch.float64).unsqueeze(1)

    def total(self) -> torch.Tensor:
        """The weight (rows, 1) of the whole vocabulary."""
        return self.weights.sum(-1, keepdim=True, dtype=torch.float64)

    def mass_above(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight (rows, 1) of all tokens that are likelier than one of such a ``weight`` (rows, 1)."""
        return self.weights.where(self.weights > weight, 0).sum(-1, keepdim=True, dtype=torch.float64)

    def bounded(self) -> "_Drawing":
        """Without the tokens outside top-p, which are found on the device, with nothing asked of it.

        Weights are floats from 0 to 1, whose bits, read as integers, are in the same order: the largest weight whose
        likelier tokens add up to top-p is found bit by bit, and it and all below it go.
        """
        mass = self.top_p * self.total()
        bound = torch.zeros(len(self.weights), 1, dtype=torch.int32, device=self.weights.device)
        for bit in reversed(range(WEIGHT_BITS)):
            higher = bound + 2**bit
            bound = torch.where(self.mass_above(higher.view(torch.float32)) < mass, bound, higher)
        return replace(self, weights=self.weights.where(self.weights > bound.view(torch.float32), 0))

    def kept(self, best: torch.Tensor, sums: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        """Which of the likeliest tokens top-p of a ``total`` (rows, 1) leaves, and min-p.

        ``best`` are their weights (rows, any number), highest first, and ``sums`` the running sums.
        """
        return (sums - best < self.top_p * total) & (best >= self.floor)

    def only(self, rows: list[int]) -> "_Drawing":
        index = _ids(rows, self.weights)
        return _Drawing(
            choosers=[self.choosers[row] for row in rows],
            weights=self.weights[index],
            top_p=self.top_p[index],
            top_k=self.top_k[index],
            floor=self.floor[index],
        )


def _choose(scores: torch.Tensor, likeliest: torch.Tensor, choosers: Sequence[Chooser]) -> torch.Tensor:
    """A token (rows,) for each row of scores, where the options that change them are applied: drawn, or the likeliest."""
    tokens = likeliest
    # Those that have many tokens sorted are no burden to others.
    ways: dict[tuple[Callable[[_Drawing], torch.Tensor], bool], list[int]] = {}
    for row, chooser in enumerate(choosers):
        if chooser.sampling.temperature > 0:
            ways.setdefault((_way(chooser.sampling), chooser.sampling.top_k > CANDIDATES), []).append(row)
    for (draw_rows, _), rows in ways.items():
        if len(rows) == len(choosers):
            tokens = draw_rows(_Drawing.of(scores, choosers))
        else:
            index = _ids(rows, scores)
            drawing = _Drawing.of(scores[index], [choosers[row] for row in rows])
            tokens = tokens.index_copy(0, index, draw_rows(drawing))
    return tokens


def _way(options: Sampling) -> Callable[[_Drawing], torch.Tensor]:
    if options.top_k:
        return _draw_from_best
    return _draw_from_likely if options.top_p < 1 else _draw_from_all


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
    """Tokens (rows,) drawn from what top-k, of that top-p, and min-p leave."""
    count = min(drawing.weights.shape[-1], max(chooser.sampling.top_k for chooser in drawing.choosers))
    best, names = drawing.weights.topk(count)
    last = drawing.top_k.clamp(max=count) - 1
    sums = best.cumsum(-1, dtype=torch.float64)
    kept = drawing.kept(best, sums, sums.gather(1, last)) & (torch.arange(count, device=best.device) <= last)
    return _pick(drawing, best * kept, names)


def _draw_from_likely(drawing: _Drawing) -> torch.Tensor:
    """Tokens (rows,) drawn from what top-p and min-p leave; exact, without sorting the vocabulary."""
    if drawing.weights.is_cuda:
        # The device alone knows whether few tokens will do, and to ask it is to wait for it.
        return _draw_from_all(drawing.bounded())
    best, names = drawing.weights.topk(min(CANDIDATES, drawing.weights.shape[-1]))
    sums = best.cumsum(-1, dtype=torch.float64)
    total = drawing.total()
    tokens = _pick(drawing, best * drawing.kept(best, sums, total), names)
    too_few = (sums[:, -1:] < drawing.top_p * total).flatten().nonzero().flatten().tolist()
    if too_few:
        tokens[_ids(too_few, tokens)] = _draw_until_likely(drawing.only(too_few))
    return tokens


def _pick(drawing: _Drawing, weights: torch.Tensor, names: torch.Tensor) -> torch.Tensor:
    """One of the names (rows, any number) in each row, drawn by the weights."""
    sums = weights.cumsum(-1, dtype=torch.float64)
    return names.gather(1, _first_above(sums, drawing.chance() * sums[:, -1:])).squeeze(1)


def _draw_until_likely(drawing: _Drawing) -> torch.Tensor:
    """Tokens (rows,) within top-p: from all, again until the drawn one is among them.

    A token is if those more likely than it do not add up to top-p. A draw is with a probability of top-p at least.
    """
    tokens = torch.empty(len(drawing.weights), dtype=torch.int64, device=drawing.weights.device)
    rows = list(range(len(tokens)))
    for _ in range(DRAWS):
        drawn = _draw_from_all(drawing).unsqueeze(1)
        likelier = drawing.mass_above(drawing.weights.gather(1, drawn))
        tokens[_ids(rows, tokens)] = drawn.squeeze(1)
        missed = (likelier >= drawing.top_p * drawing.total()).flatten().nonzero().flatten().tolist()
        if not missed:
            break
        rows, drawing = [rows[index] for index in missed], drawing.only(missed)
    else:
        tokens[_ids(rows, tokens)] = _draw_from_all(drawing.bounded())
    return tokens


def _first_above(sums: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(rows, 1): where the running sums first exceed the target; at the latest where they first reach their total."""
    total = (sums < sums[:, -1:]).sum(-1, keepdim=True)
    return torch.minimum(torch.searchsorted(sums, target, right=True), total)


def _telling(choosers: Sequence[Chooser]) -> list[int]:
    """The rows whose probabilities are told."""
    return [row for row, chooser in enumerate(choosers) if chooser.sampling.top_logprobs is not None]


def _logprob(token: int, told: tuple[float, list[float], list[int]] | None, sampling: Sampling) -> TokenLogprob | None:
    if told is None:
        return None
    own, best, names = told
    return TokenLogprob(token, own, tuple(zip(names, best, strict=True))[: sampling.top_logprobs])


def _ids(tokens: Iterable[int], like: torch.Tensor) -> torch.Tensor:
    return transfer.numbers(list(tokens), like.device)
