"""Pages of keys and values that outlive their request, found again by the tokens that lead to them."""

from collections import OrderedDict
from collections.abc import Sequence

PAGE_TOKENS = 16
ROOT = 0  # the serial of "nothing comes before"

_Key = tuple[int, tuple[int, ...]]  # (serial of the page before, the page's own tokens)


class PrefixPages:
    """``count`` pages with reference counts; those that nobody holds stay findable until their place is needed.

    A page is named by what comes before it and its own tokens, compared in full: two prompts never share a page by a
    collision of hashes. Serials are never used twice, so a page whose forerunner was evicted cannot be found by mistake.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count - 1, -1, -1))
        self._found: dict[_Key, int] = {}
        self._keys: dict[int, _Key] = {}
        self._serials: dict[int, int] = {}
        self._holders: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # least recently held first
        self._last_serial = ROOT

    def match(self, tokens: Sequence[int], limit: int) -> list[int]:
        """The pages of the longest known beginning of ``tokens[:limit]``; the caller holds them from now on."""
        pages: list[int] = []
        before = ROOT
        for start in range(0, limit - PAGE_TOKENS + 1, PAGE_TOKENS):
            page = self._found.get((before, tuple(tokens[start : start + PAGE_TOKENS])))
            if page is None:
                break
            self._hold(page)
            pages.append(page)
            before = self._serials[page]
        return pages

    def add(self, before: int | None, tokens: Sequence[int]) -> tuple[int, bool] | None:
        """Holds the page for ``tokens`` that come after the page ``before``, which the caller holds.

        Returns the page and whether it is new, so that its content is still to be written; None: every page is held.
        """
        key = (ROOT if before is None else self._serials[before], tuple(tokens))
        page = self._found.get(key)
        if page is not None:
            self._hold(page)
            return page, False
        page = self._place()
        if page is None:
            return None
        self._last_serial += 1
        self._found[key], self._keys[page], self._serials[page] = page, key, self._last_serial
        self._holders[page] = 1
        return page, True

    def release(self, pages: Sequence[int]) -> None:
        """Lets pages go that :meth:`match` or :meth:`add` gave; the last of a beginning are evicted first."""
        for page in reversed(pages):
            self._holders[page] -= 1
            if not self._holders[page]:
                del self._holders[page]
                self._idle[page] = None

    def forget(self, pages: Sequence[int]) -> None:
        """Nobody finds these any more; who holds them still has to release them."""
        for page in pages:
            self._unname(page)

    def _unname(self, page: int) -> None:
        key = self._keys.pop(page, None)
        if key is not None:
            del self._found[key]

    def _hold(self, page: int) -> None:
        self._idle.pop(page, None)
        self._holders[page] = self._holders.get(page, 0) + 1

    def _place(self) -> int | None:
        if self._free:
            return self._free.pop()
        if not self._idle:
            return None
        page, _ = self._idle.popitem(last=False)
        self._unname(page)
        del self._serials[page]
        return page
