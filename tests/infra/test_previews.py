"""`pulumi preview` of the shipped stacks by the real engine: no cluster, no Docker, charts from a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.preview import empty_charts
from local.preview import STACK_FILE, Preview, pack_settings
from local.project import ROOT
from tests.conftest import PreviewOf

pytestmark = pytest.mark.engine

Run = Callable[..., Preview]


@pytest.fixture
def run(tmp_path: Path, preview_of: PreviewOf) -> Run:
    """Previews a shipped stack, with other values at paths such as ``models/chat/gpus/count``."""
    project = tmp_path / "project"
    project.mkdir()
    charts = empty_charts(tmp_path / "charts")  # what the real ones make of our values is tested apart

    def previewed(stack: str, **changes: Any) -> Preview:
        content = yaml.safe_load((ROOT / STACK_FILE.format(stack)).read_text())
        values = {"charts": {"source": "folder", "path": str(charts)}, **changes}
        for path, value in values.items():
            first, *rest = path.split("/")
            holder, last = content["config"], f"llm-stack:{first}"
            for name in rest:
                holder, last = holder.setdefault(last, {}), name
            holder[last] = value
        for entry in ROOT.iterdir():
            if entry.name != STACK_FILE.format(stack) and not (project / entry.name).exists():
                (project / entry.name).symlink_to(entry)
        (project / STACK_FILE.format(stack)).write_text(yaml.safe_dump(content))
        return preview_of(stack, project, pack_settings(stack))

    return previewed


@pytest.mark.parametrize(("stack", "cost"), [("dev", "511.00 to 1,022.00"), ("prod", "2,774.00 to 5,548.00")])
def test_shipped_stacks_preview_from_a_clean_clone(run: Run, stack: str, cost: str) -> None:
    said = run(stack)
    assert not said.refused, said.findings
    assert all("is an example" in finding for finding in said.findings), said.findings
    assert said.outputs["gpu_cost_per_month"] == f"{cost} USD per month"
    assert said.outputs["fits"]["chat"].startswith("fits: ")
    assert said.changes["create"] > 40
    assert "sk-" not in said.markdown()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"models/chat/scaling/min_replicas": 9},
            "models.chat.scaling.min_replicas = 9: is more than max_replicas = 4",
        ),
        ({"gpu_pools/large/gpu": "T4"}, "models.chat.gpus.pool = T4:"),
        ({"cost/budget_per_month": 1000}, "cost.budget_per_month = 1000: is less than 5,548.00 USD"),
        ({"device_plugin/sharing": "mps", "device_plugin/shares": 4}, "pods share (device_plugin.sharing = mps)"),
        ({"charts": {"source": "folder", "path": "/nowhere"}}, "prometheus-operator-crds-31.0.1.tgz"),
    ],
)
def test_what_is_wrong_stops_the_preview(run: Run, changes: dict[str, Any], says: str) -> None:
    said = run("prod", **changes)
    assert said.refused
    assert any(says in finding for finding in said.findings), said.findings
