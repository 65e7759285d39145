"""Rule tests by the real promtool."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from infra.wire import JsonObject
from local.toolchain import Tools


@dataclass(frozen=True, kw_only=True)
class Expected:
    """An alert as it is told: labels besides its name, annotations after their templates were filled in."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RuleTest:
    """Series minute by minute, and what fires at ``minute``: exactly ``firing``, of which ``told`` in every word."""

    series: Mapping[str, str]
    minute: int
    firing: Sequence[tuple[str, str]] = ()  # name and severity
    told: Sequence[Expected] = field(default=())

    def to_yaml(self) -> JsonObject:
        by_name = {alert.name: alert for alert in self.told}
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in self.series.items()],
            "alert_rule_test": [
                {
                    "eval_time": f"{self.minute}m",
                    "alertname": alert.name,
                    "exp_alerts": [
                        {"exp_labels": dict(told.labels), "exp_annotations": dict(told.annotations)}
                        for told in self.told
                        if told.name == alert.name
                    ],
                }
                for alert in by_name.values()
            ],
            "promql_expr_test": [
                {
                    "eval_time": f"{self.minute}m",
                    "expr": 'group by (alertname, severity) (ALERTS{alertstate="firing"})',
                    "exp_samples": [
                        {"labels": f'{{alertname="{name}",severity="{severity}"}}', "value": 1}
                        for name, severity in self.firing
                    ],
                }
            ],
        }


def check(tools: Tools, folder: Path, specs: Sequence[JsonObject], tests: Sequence[RuleTest]) -> None:
    """Fails with promtool's words unless the rules do as the tests say."""
    files = []
    for number, spec in enumerate(specs):
        files.append(f"rules-{number}.yaml")
        (folder / files[-1]).write_text(json.dumps(spec))
    document = {"rule_files": files, "evaluation_interval": "1m", "tests": [test.to_yaml() for test in tests]}
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(document))
    run(tools, "test", "rules", str(file))


def run(tools: Tools, *arguments: str) -> str:
    done = subprocess.run([str(tools.promtool), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
