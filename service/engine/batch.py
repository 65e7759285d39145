"""What a step computes, as plain numbers: one span of tokens per turn, and what is copied and cleared before."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from service.engine.kv_cache import Change, Clear, Copy
from service.engine.scheduler import Turn


@dataclass(frozen=True, slots=True)
class Span:
    """The next tokens of one sequence, after ``before`` others; its region has ``size`` places from ``place`` on."""

    tokens: tuple[int, ...]
    before: int
    place: int
    size: int
    draws: bool  # the last token's scores are wanted
    told: range  # so are those of these of its tokens: what comes after them is there already

    @classmethod
    def of(cls, turn: Turn) -> "Span":
        lease = turn.sequence.lease
        assert lease is not None
        tokens = turn.sequence.tokens[turn.start : turn.start + turn.count]
        scored = turn.scored
        told = range(scored.start - turn.start - 1, scored.stop - turn.start - 1) if scored else range(0)
        return cls(tuple(tokens), turn.start, lease.start, lease.size, turn.draws, told)

    @property
    def count(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class Batch:
    """A step."""

    changes: tuple[Change, ...]  # of what is kept, in their order, before the step
    spans: tuple[Span, ...]  # in the order in which they are packed
    drawn: int = 0  # rows of what the last step drew, where tokens are to be read there


def encode(batch: Batch) -> list[int]:
    """The step as whole numbers, for :func:`decode`."""
    numbers = [batch.drawn, len(batch.changes)]
    for change in batch.changes:
        match change:
            case Copy(sources, targets, size):
                numbers += (len(sources), size, *sources, *targets)
            case Clear(start, size):
                numbers += (0, size, start)
    for span in batch.spans:
        told = span.told
        numbers += (span.count, span.before, span.place, span.size, span.draws, told.start, told.stop, *span.tokens)
    return numbers


def decode(numbers: Sequence[int]) -> Batch:
    drawn, change_count = numbers[:2]
    rest = iter(numbers[2:])
    return Batch(tuple(_changes(rest, change_count)), tuple(_spans(rest)), drawn)


def _changes(numbers: Iterator[int], count: int) -> Iterable[Change]:
    for _ in range(count):
        pages, size = next(numbers), next(numbers)
        if pages:
            sources = tuple(next(numbers) for _ in range(pages))
            yield Copy(sources, tuple(next(numbers) for _ in range(pages)), size)
        else:
            yield Clear(next(numbers), size)


def _spans(numbers: Iterator[int]) -> Iterable[Span]:
    for count in numbers:
        before, place, size, draws, first, end = (next(numbers) for _ in range(6))
        yield Span(tuple(next(numbers) for _ in range(count)), before, place, size, bool(draws), range(first, end))
