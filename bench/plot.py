"""A run as a picture: load and throughput over time, first tokens as they came, and how latencies are distributed."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.client import OK, Outcome
from bench.statistics import Objective, Summary

BINS = 120  # over the whole run, and no finer than a quarter of a second
FINEST_SECONDS = 0.25
SHARES = np.linspace(0, 100, 401)  # of a distribution: as many points as a picture has room for, not one for each token
OFFERED, DONE, FAILED, BOUND = "#8a8f98", "#1f6feb", "#d1242f", "#bf8700"


def draw(file: Path, title: str, outcomes: Sequence[Outcome], summary: Summary, objective: Objective) -> None:
    """Writes the picture, as SVG or PNG by the name of ``file``. There must be at least one outcome."""
    begin = min(outcome.due for outcome in outcomes)
    figure = Figure(figsize=(12, 8), layout="constrained")
    figure.suptitle(title, fontsize=11)
    (throughput, load), (first, latencies) = figure.subplots(2, 2)
    width = max(summary.seconds / BINS, FINEST_SECONDS)
    edges = np.arange(0, summary.seconds + width, width)
    _throughput(throughput, outcomes, begin, edges)
    _load(load, outcomes, begin, edges)
    _first_tokens(first, outcomes, begin, objective)
    _distributions(latencies, outcomes, objective)
    for axes in (throughput, load, first, latencies):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False)
    figure.savefig(file)


def _throughput(axes: Axes, outcomes: Sequence[Outcome], begin: float, edges: np.ndarray) -> None:
    pieces = np.concatenate([np.asarray(outcome.pieces_at) for outcome in outcomes]) - begin
    counts, _ = np.histogram(pieces, edges)
    axes.step(edges[:-1], counts / np.diff(edges), where="post", color=DONE)
    axes.set(title="Output", xlabel="s", ylabel="tokens / s", ylim=(0, None))


def _load(axes: Axes, outcomes: Sequence[Outcome], begin: float, edges: np.ndarray) -> None:
    came = np.sort([outcome.due - begin for outcome in outcomes])
    began = np.sort([outcome.pieces_at[0] - begin for outcome in outcomes if outcome.pieces_at])
    ended = np.sort([outcome.ended - begin for outcome in outcomes])
    in_flight = np.searchsorted(came, edges, "right") - np.searchsorted(ended, edges, "right")
    # A request that failed before its first token never gets one: it leaves those who wait when it ends.
    silent = np.sort([outcome.ended - begin for outcome in outcomes if not outcome.pieces_at])
    heard = np.searchsorted(began, edges, "right") + np.searchsorted(silent, edges, "right")
    axes.step(edges, in_flight, where="post", color=DONE, label="in flight")
    axes.step(
        edges,
        np.searchsorted(came, edges, "right") - heard,
        where="post",
        color=OFFERED,
        label="of them without a token yet",
    )
    axes.set(title="Requests", xlabel="s", ylabel="requests", ylim=(0, None))


def _first_tokens(axes: Axes, outcomes: Sequence[Outcome], begin: float, objective: Objective) -> None:
    heard = [outcome for outcome in outcomes if outcome.error == OK and outcome.pieces_at]
    failed = [outcome for outcome in outcomes if outcome.error != OK]
    axes.scatter(
        [outcome.due - begin for outcome in heard],
        [outcome.first_token for outcome in heard],
        s=8,
        color=DONE,
        rasterized=True,
    )
    if failed:
        axes.scatter(
            [outcome.due - begin for outcome in failed],
            [outcome.latency for outcome in failed],
            s=18,
            marker="x",
            color=FAILED,
            label="failed, after",
            rasterized=True,
        )
    _bound(axes.axhline, objective.first_token, "first token")
    axes.set(title="Time to the first token", xlabel="s, when it was due", ylabel="s", ylim=(0, None))


def _distributions(axes: Axes, outcomes: Sequence[Outcome], objective: Objective) -> None:
    heard = [outcome for outcome in outcomes if outcome.error == OK and outcome.pieces_at]
    for name, values in (
        ("between tokens", [gap for outcome in heard for gap in outcome.gaps]),
        ("first token", [outcome.first_token for outcome in heard]),
        ("whole answer", [outcome.latency for outcome in heard]),
    ):
        if values:
            axes.plot(np.percentile(values, SHARES), SHARES, label=name)
    _bound(axes.axvline, objective.first_token, "first token")
    _bound(axes.axvline, objective.time_per_token, "per token", style=":")
    axes.set(title="Latencies", xlabel="s", ylabel="% at most", xscale="log", ylim=(0, 100))


def _bound(line: Callable[..., object], seconds: float | None, what: str, style: str = "--") -> None:
    if seconds is not None:
        line(seconds, color=BOUND, linestyle=style, linewidth=1, label=f"objective, {what}")
