"""Where the keys and values of every sequence are: bookkeeping only, no tensors.

All of it is one row of token places. The first part holds what runs, one contiguous region per sequence, so that attention
reads them where they are: nothing is gathered in a step. The second part holds pages for the prefix cache; a hit is copied
into the region, a finished prompt out of it. Regions double as their sequence grows, so their sizes are few and neighbours
of the same size can be computed as one batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.engine.prefix import PAGE_TOKENS, PrefixPages
from service.engine.regions import Regions

# A multiple of what paged kernels of GPUs want (256), and long enough that a short chat never moves.
SMALLEST_REGION = 256


@dataclass(frozen=True)
class Copy:
    """Keys and values to copy before the next forward pass: ``size`` places from each source, to the targets in turn."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Clear:
    """``size`` places to set to zero."""

    start: int
    size: int


Change = Copy | Clear


@dataclass(eq=False)
class Lease:
    """A sequence's region, and the pages of the prefix cache that it holds.

    ``length`` places are in use; ``reach``, not less, may have been written to, in a step that failed or is still computed.
    """

    start: int
    size: int
    length: int
    reach: int
    cached: int
    pages: list[int] = field(default_factory=list)


class KvCache:
    """Places for ``region_tokens`` tokens of running sequences, none longer than ``context_tokens``, and ``page_count`` pages.

    ``changes`` are to be carried out in their order before anything else is written; whoever does so empties the list.
    ``longest``: places that a sequence has at most, in whole regions of the smallest size. ``cleared``: a place of the regions
    that holds nothing is zero; where others read it, though they weigh it with 0, numbers that are none would spoil them.

    Raises:
        ValueError: a sequence as long as the context would not fit.
    """

    def __init__(
        self,
        *,
        region_tokens: int,
        page_count: int,
        context_tokens: int,
        smallest_region: int = SMALLEST_REGION,
        cleared: bool = True,
    ) -> None:
        self.smallest_region = smallest_region
        self.longest = -(-context_tokens // smallest_region) * smallest_region
        if region_tokens < self.longest:
            raise ValueError(f"{region_tokens} places for keys and values are less than the context's {self.longest}")
        self._regions = Regions(region_tokens)
        self._pages = PrefixPages(page_count)
        self._pages_start = region_tokens
        self._leases: set[Lease] = set()
        self._cleared = cleared
        self.changes: list[Change] = []

    @property
    def region_tokens(self) -> int:
        """Places for running sequences."""
        return self._regions.total

    @property
    def places(self) -> int:
        """All of them: so long are the tensors."""
        return self._pages_start + self._pages.count * PAGE_TOKENS

    @property
    def usage(self) -> float:
        """The share of the places for running sequences that is taken, 0 to 1."""
        return 1 - self._regions.free / self._regions.total

    def open(self, tokens: Sequence[int], room: int, *, reusable: int) -> Lease | None:
        """A region for ``tokens`` and ``room`` more, with what the prefix cache knows of the first ``reusable``; None: no place.

        Who draws the next token leaves at least the last one to compute.
        """
        size = self._size(len(tokens) + room)
        start = self._regions.take(size)
        if start is None:
            return None
        pages = self._pages.match(tokens, reusable)
        cached = len(pages) * PAGE_TOKENS
        lease = Lease(start, size, cached, cached, cached, pages)
        if pages:
            targets = range(start, start + cached, PAGE_TOKENS)
            self.changes.append(Copy(tuple(map(self._place, pages)), tuple(targets), PAGE_TOKENS))
        self._leases.add(lease)
        return lease

    def grow(self, lease: Lease, length: int) -> bool:
        """Makes room for ``length`` tokens, in place or elsewhere; False: there is none now."""
        if length <= lease.size:
            return True
        size = self._size(length)
        if self._regions.widen(lease.start + lease.size, size - lease.size):
            lease.size = size
            return True
        start = self._regions.take(size)
        if start is None:
            return False
        self._move(lease, start, size)
        return True

    def publish(self, lease: Lease, tokens: Sequence[int]) -> None:
        """Lets later requests find the full pages of ``tokens``, all of which are computed and in the region."""
        lease.length = len(tokens)
        sources, targets = [], []
        for start in range(len(lease.pages) * PAGE_TOKENS, len(tokens) - PAGE_TOKENS + 1, PAGE_TOKENS):
            added = self._pages.add(lease.pages[-1] if lease.pages else None, tokens[start : start + PAGE_TOKENS])
            if added is None:
                break
            page, new = added
            lease.pages.append(page)
            if new:
                sources.append(lease.start + start)
                targets.append(self._place(page))
        if sources:
            self.changes.append(Copy(tuple(sources), tuple(targets), PAGE_TOKENS))

    def forget(self, lease: Lease) -> None:
        """What led to this sequence, and what others have from it, is not found any more."""
        self._pages.forget(lease.pages)

    def close(self, lease: Lease) -> None:
        """Gives the region back; the pages stay findable."""
        self._leases.remove(lease)
        self._give(lease)
        self._pages.release(lease.pages)

    def compact(self) -> None:
        """Moves the highest region that fits into a hole below it: at most one copy per step keeps what runs together."""
        for lease in sorted(self._leases, key=lambda lease: lease.start, reverse=True):
            start = self._regions.take(lease.size, below=lease.start)
            if start is not None:
                self._move(lease, start, lease.size)
                return

    def _move(self, lease: Lease, start: int, size: int) -> None:
        if lease.length:
            self.changes.append(Copy((lease.start,), (start,), lease.length))
        self._give(lease)
        lease.start, lease.size, lease.reach = start, size, lease.length

    def _give(self, lease: Lease) -> None:
        self._regions.give(lease.start, lease.size)
        if self._cleared and lease.reach:
            self.changes.append(Clear(lease.start, lease.reach))

    def _size(self, tokens: int) -> int:
        """The smallest of the sizes that holds so many: they double, up to the context."""
        doublings = max(0, (tokens - 1) // self.smallest_region).bit_length()
        return min(self.smallest_region << doublings, self.longest)

    def _place(self, page: int) -> int:
        return self._pages_start + page * PAGE_TOKENS
