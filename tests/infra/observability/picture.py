"""Draws the dashboard as Grafana lays it out, from the scenario and a live Prometheus: ``docs/dashboard.png``.

``python -m tests.infra.observability.picture`` after a change of the dashboard. No Grafana is needed, and none was used.
"""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, PercentFormatter

from infra.observability import Dashboard
from infra.observability.grafana import GRID_WIDTH, Panel, Query, Row, Unit
from local import toolchain
from local.paths import Paths
from local.screen import Screen
from local.toolchain import Tools
from tests.infra.observability.healthy import rules
from tests.infra.observability.live import Curve, Live, chosen, prometheus
from tests.infra.observability.scenario import MINUTES, START, openmetrics

OUT = Path(__file__).parents[3] / "docs/dashboard.png"
COLUMN = 0.6  # inches
ROW = 0.3  # inches
DPI = 80
LOOK_BACK = 20  # minutes at the beginning that have no full window behind them
STEP = 60  # seconds
BACKGROUND, CARD, INK, FAINT = "#111217", "#181b1f", "#ccccdc", "#3a3d44"
COLOURS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#b877d9", "#8ab8ff")
LIMIT, GOOD, BAD = "#f2495c", "#73bf69", "#f2495c"


def draw(dashboard: Dashboard, live: Live, out: Path) -> None:
    """One picture of all panels."""
    height = sum(1 + _height(row) for row in dashboard.rows)
    mpl.rcParams.update(
        {"font.size": 8, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}
    )
    figure = Figure(figsize=(GRID_WIDTH * COLUMN, height * ROW), facecolor=BACKGROUND)
    y = 0
    for row in dashboard.rows:
        figure.text(0.008, 1 - (y + 0.6) / height, row.title, fontsize=11, fontweight="bold", va="center")
        x, y = 0, y + 1
        for panel in row.panels:
            if x + panel.width > GRID_WIDTH:
                x, y = 0, y + panel.height
            _panel(figure, panel, live, x=x, y=y, rows=height)
            x += panel.width
        y += row.panels[-1].height
    figure.savefig(out, dpi=DPI, facecolor=BACKGROUND)


def _height(row: Row) -> int:
    lines = math.ceil(sum(panel.width for panel in row.panels) / GRID_WIDTH)
    return lines * row.panels[0].height


def _panel(figure: Figure, panel: Panel, live: Live, *, x: int, y: int, rows: int) -> None:
    gap = 0.004
    card = (
        x / GRID_WIDTH + gap,
        1 - (y + panel.height) / rows + gap / 2,
        panel.width / GRID_WIDTH - 2 * gap,
        panel.height / rows - gap,
    )
    back = figure.add_axes(card, facecolor=CARD, xticks=[], yticks=[])
    for spine in back.spines.values():
        spine.set_color(FAINT)
    back.text(0.02, 0.97, panel.title, va="top", fontsize=9, transform=back.transAxes)
    found = [(query, _curves(live, query)) for query in panel.queries]
    if panel.kind == "stat":
        _number(back, panel, found[0][1])
        return
    left, bottom, width, height = card
    axes = figure.add_axes((left + 0.12 * width, bottom + 0.3 * height, 0.84 * width, 0.56 * height), facecolor=CARD)
    _plot(axes, panel, found)


def _curves(live: Live, query: Query) -> list[Curve]:
    end = START + MINUTES * 60
    return live.curves(chosen(query.expression), start=START + LOOK_BACK * 60, end=end, step=STEP)


def _number(back: Axes, panel: Panel, curves: Sequence[Curve]) -> None:
    value = curves[0].points[-1][1]
    alarm = panel.warn is not None and (value < panel.warn if panel.warn_below else value >= panel.warn)
    colour = INK if panel.warn is None else BAD if alarm else GOOD
    text = f"{100 * value:.3g} %" if panel.unit == "percentunit" else f"{value:.3g}"
    back.text(0.5, 0.4, text, ha="center", va="center", fontsize=22, color=colour, transform=back.transAxes)


def _plot(axes: Axes, panel: Panel, found: Sequence[tuple[Query, list[Curve]]]) -> None:
    colours = iter(COLOURS * 3)
    ground: list[float] = []
    for query, curves in found:
        for curve in curves:
            minutes = [(at - START) / 60 for at, _ in curve.points]
            values = [value for _, value in curve.points]
            label = _legend(query.legend, curve)
            if query.limit:
                axes.plot(minutes, values, "--", color=LIMIT, linewidth=1, label=label)
                continue
            colour = next(colours)
            below = ground if panel.stacked and len(ground) == len(values) else [0.0] * len(values)
            top = [low + value for low, value in zip(below, values, strict=True)] if panel.stacked else values
            axes.plot(minutes, top, color=colour, linewidth=1.1, label=label)
            axes.fill_between(minutes, below, top, color=colour, alpha=0.35 if panel.stacked else 0.08, linewidth=0)
            if panel.stacked:
                ground = top
    axes.set_xlim(LOOK_BACK, MINUTES)
    axes.set_ylim(bottom=0, top=panel.most * 1.04 if panel.most else None)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda minute, _: f"{12 + int(minute) // 60}:{int(minute) % 60:02d}"))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[3, 6]))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(_formatter(panel.unit))
    axes.grid(color=FAINT, linewidth=0.4)
    axes.tick_params(length=0, labelsize=7)
    for spine in axes.spines.values():
        spine.set_visible(False)
    columns = 4 if all(len(str(label)) < 20 for label in axes.get_legend_handles_labels()[1]) else 3
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.45, -0.14),
        ncols=columns,
        frameon=False,
        fontsize=7,
        labelcolor=INK,
        handlelength=1.2,
        columnspacing=1.0,
    )


def _legend(text: str, curve: Curve) -> str:
    for name, value in curve.labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def _formatter(unit: Unit) -> FuncFormatter | PercentFormatter | EngFormatter:
    match unit:
        case "percentunit":
            return PercentFormatter(xmax=1)
        case "percent":
            return PercentFormatter()
        case "s":
            return EngFormatter(unit="s")
        case "celsius":
            return FuncFormatter(lambda value, _: f"{value:g} °C")
        case _:
            return EngFormatter()


def _main(tools: Tools) -> None:
    end = START + MINUTES * 60
    with tempfile.TemporaryDirectory() as folder:
        samples, spec = openmetrics(), rules().to_spec()
        with prometheus(tools, Path(folder), samples=samples, spec=spec, start=START, end=end) as live:
            draw(Dashboard(gpus=True, honor_labels=True), live, OUT)
    print(f"drawn: {OUT} ({OUT.stat().st_size // 1024} KiB)")


if __name__ == "__main__":
    _main(toolchain.obtain(Paths(), Screen()))
