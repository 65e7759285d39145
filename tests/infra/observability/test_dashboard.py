"""The dashboard as Grafana gets it, and its queries asked of a live Prometheus."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard as GrafanaDashboard

from infra.observability import Dashboard
from infra.observability.grafana import GRID_WIDTH, Panel
from local.toolchain import Tools
from tests.infra.observability.healthy import rules
from tests.infra.observability.live import chosen, prometheus
from tests.infra.observability.names import unknown
from tests.infra.observability.scenario import MINUTES, START, openmetrics

DASHBOARDS = {
    "with GPUs": Dashboard(gpus=True, honor_labels=True),
    "GPUs under exported labels": Dashboard(gpus=True, honor_labels=False),
    "without GPUs": Dashboard(gpus=False, honor_labels=True),
}
every_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)


def panels(dashboard: Dashboard) -> list[Panel]:
    return [panel for row in dashboard.rows for panel in row.panels]


@every_dashboard
def test_two_runs_give_the_same_file(dashboard: Dashboard) -> None:
    again = Dashboard(gpus=dashboard.gpus, honor_labels=dashboard.honor_labels)
    assert dashboard.config_map_data() == again.config_map_data()
    assert list(dashboard.config_map_data()) == ["llm-stack.json"]


@every_dashboard
def test_grafanas_own_types_lose_nothing_of_it(dashboard: Dashboard) -> None:
    document = json.loads(dashboard.to_json())
    read = GrafanaDashboard.from_json(document)
    assert lost(document, json.loads(JSONEncoder().encode(read))) == []


def lost(given: object, kept: object, at: str = "") -> list[str]:
    """Where ``kept`` lacks something of ``given``, or has something else."""
    if isinstance(given, dict):
        inside = kept if isinstance(kept, dict) else {}
        return [fault for key, value in given.items() for fault in lost(value, inside.get(key), f"{at}.{key}")]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        pairs = enumerate(zip(given, kept, strict=True))
        return [fault for index, (mine, theirs) in pairs for fault in lost(mine, theirs, f"{at}[{index}]")]
    return [] if given == kept else [f"{at}: {given!r} became {kept!r}"]


@every_dashboard
def test_panels_have_places_of_their_own(dashboard: Dashboard) -> None:
    drawn = json.loads(dashboard.to_json())["panels"]
    assert len({panel["id"] for panel in drawn}) == len(drawn)
    taken: set[tuple[int, int]] = set()
    for panel in drawn:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= GRID_WIDTH
        taken |= cells
    rows = max(y for _, y in taken) + 1
    assert len(taken) == rows * GRID_WIDTH  # no holes


@every_dashboard
def test_every_panel_asks_the_chosen_prometheus_and_says_what_it_shows(dashboard: Dashboard) -> None:
    document = json.loads(dashboard.to_json())
    assert [variable["name"] for variable in document["templating"]["list"]] == ["datasource", "namespace", "model"]
    for panel in document["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["description"]
        assert panel["targets"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        legends = {target["legendFormat"] for target in panel["targets"]}
        assert {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]} <= legends


@every_dashboard
def test_queries_use_only_metrics_and_labels_that_exist(dashboard: Dashboard) -> None:
    recorded = {rule["record"] for group in _groups() for rule in group["rules"] if "record" in rule}
    assert unknown([query.expression for panel in panels(dashboard) for query in panel.queries], recorded) == set()


def test_gpus_are_shown_only_where_there_are_some() -> None:
    assert "DCGM" in Dashboard(gpus=True, honor_labels=True).to_json()
    assert "DCGM" not in Dashboard(gpus=False, honor_labels=True).to_json()


def _groups() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = json.loads(json.dumps(rules().to_spec()))["groups"]
    return groups


@pytest.mark.engine
@pytest.mark.timeout(180)
def test_every_query_is_answered_by_a_live_prometheus(tools: Tools, tmp_path: Path) -> None:
    end = START + MINUTES * 60
    silent = []
    with prometheus(tools, tmp_path, samples=openmetrics(), spec=rules().to_spec(), start=START, end=end) as live:
        for panel in panels(Dashboard(gpus=True, honor_labels=True)):
            for query in panel.queries:
                curves = live.curves(chosen(query.expression), start=START + 3600, end=end, step=60)
                if not curves or not all(math.isfinite(value) for curve in curves for _, value in curve.points):
                    silent.append((panel.title, query.legend))
    assert silent == []
