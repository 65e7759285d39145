"""What a step computes, as plain numbers: one span of tokens per turn, and the copies that come before."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from service.engine.kv_cache import Copy
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

    copies: tuple[Copy, ...]
    spans: tuple[Span, ...]  # in the order in which they are packed
    drawn: int = 0  # rows of what the last step drew, where tokens are to be read there


@dataclass(frozen=True, slots=True)
class Wipe:
    """A region to forget, after the copies."""

    copies: tuple[Copy, ...]
    place: int
    size: int


Order = Batch | Wipe

_BATCH, _WIPE = 0, 1


def encode(order: Order) -> list[int]:
    """The order as whole numbers, for :func:`decode`."""
    numbers = [len(order.copies)]
    for copy in order.copies:
        numbers += (len(copy.sources), copy.size, *copy.sources, *copy.targets)
    match order:
        case Batch(spans=spans, drawn=drawn):
            numbers.append(drawn)
            for span in spans:
                told = span.told
                numbers += (
                    span.count,
                    span.before,
                    span.place,
                    span.size,
                    span.draws,
                    told.start,
                    told.stop,
                    *span.tokens,
                )
            return [_BATCH, *numbers]
        case Wipe(place=place, size=size):
            return [_WIPE, *numbers, place, size]


def decode(numbers: Sequence[int]) -> Order:
    kind, copy_count = numbers[:2]
    rest = iter(numbers[2:])
    copies = tuple(_copies(rest, copy_count))
    if kind == _WIPE:
        return Wipe(copies, next(rest), next(rest))
    drawn = next(rest)
    return Batch(copies, tuple(_spans(rest)), drawn)


def _copies(numbers: Iterator[int], count: int) -> Iterable[Copy]:
    for _ in range(count):
        pages, size = next(numbers), next(numbers)
        sources = tuple(next(numbers) for _ in range(pages))
        yield Copy(sources, tuple(next(numbers) for _ in range(pages)), size)


def _spans(numbers: Iterator[int]) -> Iterable[Span]:
    for count in numbers:
        before, place, size, draws, first, end = (next(numbers) for _ in range(6))
        yield Span(tuple(next(numbers) for _ in range(count)), before, place, size, bool(draws), range(first, end))
