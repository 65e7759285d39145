"""When requests come and how long they are: at a steady mean rate, or as a recorded hour of traffic had them."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

TIMESTAMP, CONTEXT_TOKENS, GENERATED_TOKENS = "TIMESTAMP", "ContextTokens", "GeneratedTokens"
# Traces write seven digits of a second's fraction; datetime reads six.
MICROSECOND_DIGITS = 6


class TraceError(ValueError):
    """What is wrong with a trace, and where."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A request to be: ``at`` in seconds from the start, lengths in tokens."""

    at: float
    prompt_tokens: int
    output_tokens: int


def poisson(rate: float, seconds: float, random: np.random.Generator) -> Iterator[float]:
    """Times below ``seconds`` at which requests come that know nothing of each other, ``rate`` per second in the mean."""
    at = float(random.exponential(1 / rate))
    while at < seconds:
        yield at
        at += float(random.exponential(1 / rate))


def read_trace(file: Path) -> list[Arrival]:
    """A trace with the columns TIMESTAMP, ContextTokens, GeneratedTokens; its first request comes at 0.

    Raises:
        TraceError: the file has no such columns, or a row has a value that is none.
    """
    with file.open(newline="") as rows:
        table = csv.DictReader(rows)
        columns = {TIMESTAMP, CONTEXT_TOKENS, GENERATED_TOKENS}
        if missing := columns - set(table.fieldnames or ()):
            raise TraceError(f"{file}: no column {', '.join(sorted(missing))} in {', '.join(table.fieldnames or ())}")
        read = [_row(file, number, row) for number, row in enumerate(table, start=2)]
    if not read:
        raise TraceError(f"{file}: no requests")
    read.sort(key=lambda timed: timed[0])
    first = read[0][0]
    return [
        Arrival(at=(time - first).total_seconds(), prompt_tokens=context, output_tokens=generated)
        for time, context, generated in read
    ]


def window(arrivals: Sequence[Arrival], *, start: float, seconds: float | None, speed: float) -> list[Arrival]:
    """Those that come within ``seconds`` from ``start`` on, both in the trace's own time, replayed ``speed`` times as fast."""
    end = float("inf") if seconds is None else start + seconds
    return [
        Arrival(
            at=(arrival.at - start) / speed, prompt_tokens=arrival.prompt_tokens, output_tokens=arrival.output_tokens
        )
        for arrival in arrivals
        if start <= arrival.at < end
    ]


def _row(file: Path, number: int, row: dict[str, str]) -> tuple[datetime, int, int]:
    try:
        seconds, point, fraction = row[TIMESTAMP].partition(".")
        time = datetime.fromisoformat(seconds + point + fraction[:MICROSECOND_DIGITS])
        return time, int(row[CONTEXT_TOKENS]), int(row[GENERATED_TOKENS])
    except (ValueError, TypeError, AttributeError) as error:
        raise TraceError(f"{file}, line {number}: {error}") from None
