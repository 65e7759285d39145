"""Grafana's dashboards as JSON, as far as ours needs them.

Source of the format: Grafana's own export, schema version 39 (Grafana 10.4); newer ones read it and upgrade it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from infra.wire import JsonObject

SCHEMA_VERSION = 39
GRID_WIDTH = 24  # columns of Grafana's grid
PANEL_HEIGHT = 7  # rows of it, 30 pixels each
STAT_HEIGHT = 4
DATASOURCE: JsonObject = {"type": "prometheus", "uid": "${datasource}"}

# Units by Grafana's own ids.
Unit = Literal["short", "s", "percent", "percentunit", "reqps", "ops", "celsius", "none"]


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A choice at the top of the dashboard; without ``query`` it is the Prometheus to ask."""

    name: str
    label: str
    query: str | None = None

    def to_json(self) -> JsonObject:
        named: JsonObject = {"name": self.name, "label": self.label, "hide": 0}
        if self.query is None:
            return {**named, "type": "datasource", "query": "prometheus"}
        query: JsonObject = {"query": self.query, "refId": self.name}
        # 2: asked again when the time range changes, so that models which came later are there.
        return {**named, "type": "query", "datasource": DATASOURCE, "query": query, "refresh": 2, "sort": 1}


@dataclass(frozen=True, kw_only=True)
class Query:
    """A query and the name of its curves; ``limit`` draws it as a dashed line that the others are measured by."""

    expression: str
    legend: str
    limit: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture: curves over time, or one number (``kind="stat"``).

    ``width`` in columns of 24; ``warn`` is where the number turns red, above it (or below it, with ``warn_below``).
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8
    stacked: bool = False
    most: float | None = None
    warn: float | None = None
    warn_below: bool = False

    @property
    def height(self) -> int:
        return STAT_HEIGHT if self.kind == "stat" else PANEL_HEIGHT

    def to_json(self, number: int, x: int, y: int) -> JsonObject:
        return {
            "id": number,
            "title": self.title,
            "description": self.description,
            "type": self.kind,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [_target(index, query, instant=self.kind == "stat") for index, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(), "overrides": [_limit(q) for q in self.queries if q.limit]},
            "options": self._options(),
        }

    def _defaults(self) -> JsonObject:
        calm, alarm = ("red", "green") if self.warn_below else ("green", "red")
        steps: list[JsonObject] = [{"color": calm if self.warn is not None else "text", "value": None}]
        if self.warn is not None:
            steps.append({"color": alarm, "value": self.warn})
        custom: JsonObject = {
            "lineWidth": 1,
            "fillOpacity": 30 if self.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
        }
        return {
            "unit": self.unit,
            "min": 0,
            **({"max": self.most} if self.most is not None else {}),
            "thresholds": {"mode": "absolute", "steps": steps},
            **({} if self.kind == "stat" else {"custom": custom}),
        }

    def _options(self) -> JsonObject:
        if self.kind == "stat":
            last: JsonObject = {"calcs": ["lastNotNull"], "fields": "", "values": False}
            return {"reduceOptions": last, "colorMode": "value", "graphMode": "none", "textMode": "auto"}
        legend: JsonObject = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A heading and the panels below it, from left to right."""

    title: str
    panels: tuple[Panel, ...] = field(default=())


def dashboard_json(*, uid: str, title: str, variables: tuple[Variable, ...], rows: tuple[Row, ...]) -> str:
    """The dashboard, as a file for Grafana's provisioning."""
    dashboard: JsonObject = {
        "uid": uid,
        "title": title,
        "tags": ["llm-stack"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,  # the same moment is marked in all panels
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [variable.to_json() for variable in variables]},
        "panels": list(_placed(rows)),
    }
    return json.dumps(dashboard, indent=1, sort_keys=True)


def _placed(rows: tuple[Row, ...]) -> Iterator[JsonObject]:
    number, y = 0, 0
    for row in rows:
        number += 1
        place: JsonObject = {"x": 0, "y": y, "w": GRID_WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > GRID_WIDTH:
                x, y, height = 0, y + height, 0
            number += 1
            yield panel.to_json(number, x, y)
            x, height = x + panel.width, max(height, panel.height)
        y += height


def _target(index: int, query: Query, *, instant: bool) -> JsonObject:
    return {
        "refId": chr(ord("A") + index),
        "datasource": DATASOURCE,
        "expr": query.expression,
        "legendFormat": query.legend,
        "instant": instant,
        "range": not instant,
    }


def _limit(query: Query) -> JsonObject:
    properties: list[JsonObject] = [
        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
        {"id": "custom.fillOpacity", "value": 0},
        {"id": "custom.stacking", "value": {"mode": "none", "group": "limit"}},
        {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
    ]
    return {"matcher": {"id": "byName", "options": query.legend}, "properties": properties}
