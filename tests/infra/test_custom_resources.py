"""Custom resources against the schemas of their own definitions, and the signals against promtool."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from infra.config.readers import from_files
from infra.config.schema import Scaling
from infra.signals import signals
from infra.workload import Workload
from local.toolchain import Tools
from service import metric_names

Mapping = dict[str, Any]
WORKLOAD = Workload(namespace="llm", name="chat", served_model='org/"chat"')


def strict(schema: Any) -> Any:
    """The schema with unknown keys refused, which the API server would only prune."""
    if isinstance(schema, list):
        return [strict(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(inner) for name, inner in schema.items()}
    if "properties" in closed and "x-kubernetes-preserve-unknown-fields" not in closed:
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.mark.engine
@pytest.mark.parametrize("stack", ["local", "sound"])
@pytest.mark.parametrize(
    ("kind", "file"),
    [("ScaledObject", "keda.sh_scaledobjects"), ("ServiceMonitor", "monitoring.coreos.com_servicemonitors")],
)
def test_specs_are_valid(
    deploy: Callable[[Mapping], Any],
    sound: Mapping,
    crd_schema: Callable[[str], Mapping],
    kind: str,
    file: str,
    stack: str,
) -> None:
    resource = deploy(from_files("local") if stack == "local" else sound).only(kind)
    # The mock engine hands every number over as a float.
    spec = yaml.safe_load(re.sub(r"(?<=\d)\.0\b", "", yaml.safe_dump(resource["spec"])))
    jsonschema.validate(spec, strict(crd_schema(file)["properties"]["spec"]))


def test_signals_use_the_servers_own_names() -> None:
    for signal in signals(Scaling()):
        assert signal.metric in vars(metric_names).values()
        assert signal.metric_type == "AverageValue"


@pytest.mark.engine
@pytest.mark.parametrize("signal", signals(Scaling()), ids=lambda signal: signal.name)
def test_a_query_gives_one_series_for_many_pods_and_none_for_no_pod(tmp_path: Path, tools: Tools, signal: Any) -> None:
    def series(pod: str, **labels: str) -> str:
        every = {"namespace": "llm", "service": "chat", "model_name": 'org/\\"chat\\"', "pod": pod, **labels}
        pairs = ",".join(f'{name}="{value}"' for name, value in every.items())
        return f"{signal.metric}{{{pairs}}}"

    query = signal.query(WORKLOAD)
    tests = {
        "rule_files": [],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {"series": series("a"), "values": "3"},
                    {"series": series("b"), "values": "4"},
                    {"series": series("c", namespace="other"), "values": "50"},
                    {"series": series("d", service="code"), "values": "60"},
                ],
                "promql_expr_test": [
                    {"expr": query, "eval_time": "15s", "exp_samples": [{"labels": "{}", "value": 7}]}
                ],
            },
            {
                "interval": "15s",
                "input_series": [{"series": series("c", namespace="other"), "values": "50"}],
                "promql_expr_test": [{"expr": query, "eval_time": "15s", "exp_samples": []}],
            },
        ],
    }
    file = tmp_path / "signal.yaml"
    file.write_text(yaml.safe_dump(tests))
    done = subprocess.run(
        [str(tools.promtool), "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
