"""Times as cron says them and KEDA reads them: minute hour day month weekday.

Source: kedacore/keda 2.20.2, pkg/scalers/cron_scaler.go, which leaves it to robfig/cron 3, parser.go. Sunday is 0, never 7, and
a range never goes over the end of the day or the week.
"""

import re
from dataclasses import dataclass

PART = re.compile(r"(?:[*?]|(?P<first>\d\d?|[a-z]{3})(?:-(?P<last>\d\d?|[a-z]{3}))?)(?:/(?P<step>\d\d?))?", re.ASCII)


@dataclass(frozen=True)
class Field:
    """One of the five fields; ``words`` stand for its numbers, from the lowest on."""

    name: str
    lowest: int
    highest: int
    words: tuple[str, ...] = ()

    def takes(self, text: str) -> bool:
        """Whether each part of a list is a number, a rising range or a star, with a step or without."""
        return all(self._takes_part(part) for part in text.lower().split(","))

    def _takes_part(self, text: str) -> bool:
        part = PART.fullmatch(text)
        if part is None or (part["step"] and not int(part["step"])):
            return False
        if part["first"] is None:
            return True
        first = self._number(part["first"])
        last = first if part["last"] is None else self._number(part["last"])
        return first is not None and last is not None and self.lowest <= first <= last <= self.highest

    def _number(self, text: str) -> int | None:
        if text.isdecimal():
            return int(text)
        return self.lowest + self.words.index(text) if text in self.words else None


MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS = (
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day", 1, 31),
    Field("month", 1, 12, MONTHS),
    Field("weekday", 0, 6, DAYS),
)


def refused(time: str) -> tuple[Field, str] | None:
    """The first field that KEDA refuses, and what stands there; ``time`` has five fields."""
    pairs = zip(FIELDS, time.split(" "), strict=True)
    return next(((field, text) for field, text in pairs if not field.takes(text)), None)
