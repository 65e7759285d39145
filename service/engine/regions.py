"""Stretches of one long row of tokens: who has which. First fit, lowest address first, so that what runs lies together."""

from bisect import bisect_left


class Regions:
    """Hands out stretches of ``total`` tokens; sizes and addresses are in tokens."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._holes: list[tuple[int, int]] = [(0, total)] if total else []  # (start, size), by start, never adjacent

    @property
    def free(self) -> int:
        return sum(size for _, size in self._holes)

    def take(self, size: int, *, below: int | None = None) -> int | None:
        """The start of the lowest stretch of ``size``, if there is one (that starts before ``below``)."""
        for index, (start, hole) in enumerate(self._holes):
            if below is not None and start >= below:
                return None
            if hole >= size:
                self._holes[index : index + 1] = [(start + size, hole - size)] if hole > size else []
                return start
        return None

    def widen(self, end: int, more: int) -> bool:
        """Takes ``more`` right after ``end``, if all of it is free."""
        index = bisect_left(self._holes, (end, 0))
        if index == len(self._holes) or self._holes[index][0] != end or self._holes[index][1] < more:
            return False
        hole = self._holes[index][1]
        self._holes[index : index + 1] = [(end + more, hole - more)] if hole > more else []
        return True

    def give(self, start: int, size: int) -> None:
        """Gives a stretch back."""
        index = bisect_left(self._holes, (start, 0))
        end = start + size
        if index < len(self._holes) and self._holes[index][0] == end:
            end += self._holes.pop(index)[1]
        if index and sum(self._holes[index - 1]) == start:
            index -= 1
            start = self._holes.pop(index)[0]
        self._holes.insert(index, (start, end - start))
