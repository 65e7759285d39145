"""Carries a step out: turns of sequences in, scores of their next tokens out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch

from service.engine import linear, transfer
from service.engine.attention import ARGUMENT, Chunk, DecodeRun, Layer, Part, Shapes, Step, room
from service.engine.batch import Batch, Span
from service.engine.graphs import Graphs, Record, Table
from service.engine.kv_cache import Change, Clear, Copy, KvCache
from service.engine.scheduler import Turn
from service.engine.varlen import Paged


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a step gives: the scores, in the network's type, which the device may still be computing."""

    turns: list[Turn]  # in the order of their rows
    scores: torch.Tensor  # (rows, vocabulary): one for each that draws a token, then one for each token that is told of

    @cached_property
    def drawing(self) -> list[Turn]:
        return [turn for turn in self.turns if turn.draws]

    def scores_of(self, rows: Sequence[int]) -> torch.Tensor:
        """Some of those that draw, in float32."""
        if len(rows) == len(self.drawing):
            return self.scores[: len(rows)].float()
        return self.scores[transfer.numbers(rows, self.scores.device)].float()

    def told(self) -> Iterator[tuple[Turn, torch.Tensor]]:
        """The scores that tell of the tokens in ``Turn.scored``."""
        row = len(self.drawing)
        for turn in self.turns:
            if turn.scored:
                yield turn, self.scores[row : row + len(turn.scored)]
                row += len(turn.scored)


def _nobody(_: object) -> None:
    """There are no others."""


class Runner:
    """A network with ``attn_implementation="packed"``, and the keys and values of all its sequences.

    ``announce`` gets every step before it is computed, for others who have to do the same; ``share`` makes a tensor of the
    device theirs.
    """

    def __init__(
        self,
        network: Any,
        cache: KvCache,
        shapes: Shapes,
        *,
        announce: Callable[[Batch], None] = _nobody,
        share: Callable[[torch.Tensor], None] = _nobody,
    ) -> None:
        self._network = network
        self._cache = cache
        self._announce, self._share = announce, share
        self._device: torch.device = network.device
        self._paged, self._reordered = shapes.paged, shapes.reordered
        self._graphs: Graphs | None = None
        make = partial(room, cache.places, paged=shapes.paged, dtype=shapes.dtype, device=self._device)
        self._layers: list[Layer] = [(make(keys), make(values)) for _, (keys, values) in sorted(shapes.layers.items())]

    @torch.inference_mode()
    def record(self, most: int, make: Callable[[], Record], report: Callable[[str], None]) -> None:
        """Records the step in which up to ``most`` sequences compute a token each, where a paged kernel computes it.

        Nothing may be in the cache yet.
        """
        cache = self._cache
        if self._paged:
            table = Table(page=cache.smallest_region, places=cache.region_tokens, longest=cache.longest)
            self._graphs = Graphs(self._forward, table, most=most, device=self._device, record=make(), report=report)

    def run(self, turns: list[Turn], drawn: torch.Tensor | None = None) -> Result:
        """Computes the turns; ``drawn``: on the device, what the rows of the last step drew, if a token is to be read there."""
        ordered = sorted(turns, key=_packing_order)
        spans = tuple(map(Span.of, ordered))
        if all(span.tokens[-1] >= 0 for span in spans):
            drawn = None
        self._announce(Batch(tuple(self._cache.changes), spans, 0 if drawn is None else len(drawn)))
        while self._cache.changes:
            self._change(self._cache.changes[0])
            del self._cache.changes[0]
        return Result(turns=ordered, scores=self._compute(spans, drawn))

    def follow(self, batch: Batch) -> None:
        """Computes what another runner told."""
        for change in batch.changes:
            self._change(change)
        drawn = torch.empty(batch.drawn, dtype=torch.int64, device=self._device) if batch.drawn else None
        self._compute(batch.spans, drawn)

    def check(self) -> None:
        """Raises what the device has to say: after some failures a GPU computes nothing more in this process."""
        torch.zeros(1, device=self._device).item()

    @torch.inference_mode()
    def _compute(self, spans: Sequence[Span], drawn: torch.Tensor | None) -> torch.Tensor:
        """The scores of those that draw, and after them those that tell of tokens which are there."""
        if drawn is not None:
            self._share(drawn)
        if self._graphs is not None and (recorded := self._graphs.run(spans, drawn)) is not None:
            return recorded
        ids: list[int] = []
        positions: list[int] = []
        places: list[int] = []
        rows: list[int] = []
        told: list[int] = []
        for span in spans:
            end = span.before + span.count
            told.extend(len(ids) + row for row in span.told)
            ids.extend(span.tokens)
            positions.extend(range(span.before, end))
            places.extend(range(span.place + span.before, span.place + end))
            if span.draws:
                rows.append(len(ids) - 1)
        kept = rows + told
        scores = self._forward(
            transfer.resolved(self._tensor(self._filled(ids)), drawn),
            self._tensor(self._filled(positions)),
            self._tensor(places),
            self._parts(spans),
            self._tensor(self._filled(kept)),
        )
        return scores[: len(kept)]

    def _forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        places: torch.Tensor,
        parts: Sequence[Part],
        kept: torch.Tensor,
    ) -> torch.Tensor:
        result = self._network(
            input_ids=tokens[None],
            position_ids=positions[None],
            use_cache=False,
            logits_to_keep=kept,
            **{ARGUMENT: Step(layers=self._layers, places=places, parts=parts)},
        )
        scores: torch.Tensor = result.logits[0]
        return scores

    @torch.inference_mode()
    def _change(self, change: Change) -> None:
        parts = [part for layer in self._layers for part in layer]
        match change:
            case Copy(sources, targets, size):
                moves = self._tensor([place for start in sources for place in range(start, start + size)])
                into = self._tensor([place for start in targets for place in range(start, start + size)])
                for part in parts:
                    part.index_copy_(0, into, part.index_select(0, moves))
            case Clear(start, size):
                for part in parts:
                    part[start : start + size].zero_()

    def _filled(self, numbers: list[int]) -> list[int]:
        """As many as there are kernels for: the last one is repeated."""
        missing = linear.rounded(len(numbers)) - len(numbers) if self._reordered and numbers else 0
        return numbers + numbers[-1:] * missing

    def _parts(self, spans: Sequence[Span]) -> Sequence[Part]:
        if not self._paged:
            return _runs_and_chunks(spans)
        cache = self._cache
        return [Paged.of(spans, page=cache.smallest_region, places=cache.region_tokens, device=self._device)]

    def _tensor(self, numbers: list[int]) -> torch.Tensor:
        return transfer.numbers(numbers, self._device)


def _packing_order(turn: Turn) -> tuple[bool, int]:
    """Single tokens first, by place, so that neighbours are one batch; then chunks."""
    assert turn.sequence.lease is not None
    return turn.count > 1, turn.sequence.lease.start


def _runs_and_chunks(spans: Iterable[Span]) -> list[DecodeRun | Chunk]:
    parts: list[DecodeRun | Chunk] = []
    row = 0
    for span in spans:
        last = parts[-1] if parts else None
        if span.count > 1:
            parts.append(Chunk(first=row, count=span.count, start=span.place, before=span.before))
        elif (
            isinstance(last, DecodeRun)
            and last.size == span.size
            and last.start + last.size * len(last.lengths) == span.place
        ):
            last.lengths.append(span.before + 1)
        else:
            parts.append(DecodeRun(first=row, start=span.place, size=span.size, lengths=[span.before + 1]))
        row += span.count
    return parts
