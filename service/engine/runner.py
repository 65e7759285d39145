"""Carries a step out: turns of sequences in, scores of their next tokens out."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from service.engine.attention import ARGUMENT, Chunk, DecodeRun, Layer, Part, Shapes, Step
from service.engine.kv_cache import Copy, KvCache, Lease
from service.engine.scheduler import Turn
from service.engine.varlen import Paged

# Takes the rows of scores (in the network's type) that tell of the tokens in ``Turn.scored``.
Tell = Callable[[Turn, torch.Tensor], None]


class Runner:
    """A network with ``attn_implementation="packed"``, and the keys and values of all its sequences."""

    def __init__(self, network: Any, cache: KvCache, shapes: Shapes) -> None:
        self._network = network
        self._cache = cache
        self._device: torch.device = network.device
        self._paged = shapes.paged
        # Zeros, for places that hold nothing yet are read (and weighted with 0); the system gives memory when they are used.
        self._layers: list[Layer] = [
            (
                torch.zeros(cache.places, *keys, dtype=shapes.dtype, device=self._device),
                torch.zeros(cache.places, *values, dtype=shapes.dtype, device=self._device),
            )
            for _, (keys, values) in sorted(shapes.layers.items())
        ]

    @torch.inference_mode()
    def run(self, turns: list[Turn], tell: Tell = lambda *_: None) -> tuple[list[Turn], torch.Tensor]:
        """Computes the turns; returns those that draw a token, and (their number, vocabulary) scores in float32.

        The scores that tell of tokens which are there already go to ``tell``, a turn's at a time, and are not kept.
        """
        self._copy_all()
        ordered = sorted(turns, key=_packing_order)
        ids: list[int] = []
        positions: list[int] = []
        places: list[int] = []
        rows: list[int] = []
        told: list[int] = []
        for turn in ordered:
            start, end = turn.start, turn.start + turn.count
            told.extend(len(ids) + place - start - 1 for place in turn.scored)
            ids.extend(turn.sequence.tokens[start:end])
            positions.extend(range(start, end))
            base = _lease(turn).start
            places.extend(range(base + start, base + end))
            if turn.draws:
                rows.append(len(ids) - 1)
        step = Step(layers=self._layers, places=self._tensor(places), parts=self._parts(ordered))
        result = self._network(
            input_ids=self._tensor(ids)[None],
            position_ids=self._tensor(positions)[None],
            use_cache=False,
            logits_to_keep=self._tensor(rows + told),
            **{ARGUMENT: step},
        )
        scores: torch.Tensor = result.logits[0]
        row = len(rows)
        for turn in ordered:
            if turn.scored:
                tell(turn, scores[row : row + len(turn.scored)])
                row += len(turn.scored)
        return [turn for turn in ordered if turn.draws], scores[: len(rows)].float()

    @torch.inference_mode()
    def wipe(self, lease: Lease) -> None:
        """Forgets what is in a region: numbers that are none would spoil whoever is computed together with it."""
        self._copy_all()  # what others have from here, they got before
        for layer in self._layers:
            for part in layer:
                part[lease.start : lease.start + lease.size].zero_()

    def check(self) -> None:
        """Raises what the device has to say: after some failures a GPU computes nothing more in this process."""
        torch.zeros(1, device=self._device).item()

    def _copy_all(self) -> None:
        while self._cache.copies:
            self._copy(self._cache.copies[0])
            del self._cache.copies[0]

    def _copy(self, copy: Copy) -> None:
        moves = self._tensor([place for start in copy.sources for place in range(start, start + copy.size)])
        into = self._tensor([place for start in copy.targets for place in range(start, start + copy.size)])
        for layer in self._layers:
            for part in layer:
                part.index_copy_(0, into, part.index_select(0, moves))

    def _parts(self, ordered: list[Turn]) -> Sequence[Part]:
        if not self._paged:
            return _runs_and_chunks(ordered)
        cache = self._cache
        return [Paged.of(ordered, page=cache.smallest_region, places=cache.region_tokens, device=self._device)]

    def _tensor(self, numbers: list[int]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._device)


def _lease(turn: Turn) -> Lease:
    assert turn.sequence.lease is not None
    return turn.sequence.lease


def _packing_order(turn: Turn) -> tuple[bool, int]:
    """Single tokens first, by place, so that neighbours are one batch; then chunks."""
    return turn.count > 1, _lease(turn).start


def _runs_and_chunks(ordered: Iterable[Turn]) -> list[DecodeRun | Chunk]:
    parts: list[DecodeRun | Chunk] = []
    row = 0
    for turn in ordered:
        lease = _lease(turn)
        last = parts[-1] if parts else None
        if turn.count > 1:
            parts.append(Chunk(first=row, count=turn.count, start=lease.start, before=turn.start))
        elif (
            isinstance(last, DecodeRun)
            and last.size == lease.size
            and last.start + last.size * len(last.lengths) == lease.start
        ):
            last.lengths.append(turn.start + 1)
        else:
            parts.append(DecodeRun(first=row, start=lease.start, size=lease.size, lengths=[turn.start + 1]))
        row += turn.count
    return parts
