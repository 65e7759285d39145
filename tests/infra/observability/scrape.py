"""Series as Prometheus stores them: what an exporter says, and what the scrape adds or renames.

The labels of each metric are those of ``exporters/*.txt``, read from the exporters' sources; a test that invents a metric
or a label fails here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service import metric_names

EXPORTERS = Path(__file__).parent / "exporters"
SERVER_LABELS = (metric_names.MODEL_NAME_LABEL, "engine", metric_names.FINISHED_REASON_LABEL, "le")
SUFFIX = re.compile(r"_(total|bucket|count|sum)$")


def known(exporter: str) -> dict[str, tuple[str, ...]]:
    """The metrics of an exporter, each with its own labels."""
    lines = (EXPORTERS / f"{exporter}.txt").read_text().splitlines()
    named = (line.split() for line in lines if not line.startswith("#"))
    return {metric: tuple(labels) for metric, *labels in named}


def served(metric: str) -> bool:
    """Whether it is a metric of the model's server (vLLM's name)."""
    return SUFFIX.sub("", metric) in vars(metric_names).values()


@dataclass(frozen=True, kw_only=True)
class Scrape:
    """One exporter, the labels of its target, and whether the scrape keeps the exporter's own (``honorLabels``)."""

    exporter: str
    target: Mapping[str, str]
    honor_labels: bool

    def series(self, metric: str, /, **own: str) -> str:
        allowed = SERVER_LABELS if served(metric) else known(self.exporter)[metric]
        assert set(own) <= set(allowed), f"{metric} has no label {set(own) - set(allowed)}"
        labels = dict(self.target)
        for name, value in own.items():
            labels[f"exported_{name}" if name in self.target and not self.honor_labels else name] = value
        pairs = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
        return f"{metric}{{{pairs}}}"


def _target(namespace: str, service: str, pod: str) -> dict[str, str]:
    return {"namespace": namespace, "service": service, "pod": pod, "job": service, "instance": f"{pod}:8000"}


KEDA = Scrape(
    exporter="keda",
    target={**_target("keda", "keda-operator", "keda-operator-7d9c6b8f4-2xk9p"), "container": "keda-operator"},
    honor_labels=False,
)
STATE = Scrape(
    exporter="kube-state-metrics",
    target={**_target("monitoring", "kps-kube-state-metrics", "kps-kube-state-metrics-6b4c-x8z2q"), "container": "ksm"},
    honor_labels=True,
)


def dcgm(*, honor_labels: bool) -> Scrape:
    target = {**_target("gpu", "dcgm-exporter", "dcgm-exporter-9xk2p"), "container": "exporter"}
    return Scrape(exporter="dcgm-exporter", target=target, honor_labels=honor_labels)


def server(pod: str, *, namespace: str = "llm", service: str = "chat") -> Scrape:
    target = {**_target(namespace, service, pod), "container": "server"}
    return Scrape(exporter="", target=target, honor_labels=False)
