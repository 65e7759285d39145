"""Which metrics and labels a query asks for, against what the exporters are known to expose."""

import re
from collections.abc import Iterable

from tests.infra.observability.scrape import SERVER_LABELS, known, served

SELECTOR = re.compile(r'\b((?:vllm:|llm:|keda_|kube_|DCGM_)[\w:]+|ALERTS)(?:\{((?:[^}"]|"(?:[^"\\]|\\.)*")*)\})?')
LABEL = re.compile(r'(\w+)(?:=~|!~|!=|=)"')
TARGET = {"namespace", "service", "pod"}  # what the Prometheus operator writes on every target
EXPORTED = {"exported_namespace", "exported_pod"}
# What the rules write on what they record, and Prometheus on alerts that fire.
RECORDED = {"namespace", "service", "objective", "signal", "alertstate"}


def metrics_in(expressions: Iterable[str]) -> set[str]:
    return {match[1] for expression in expressions for match in SELECTOR.finditer(expression)}


def unknown(expressions: Iterable[str], recorded: set[str]) -> set[str]:
    """Metrics that no exporter has, and labels that a metric does not have (as ``metric{label}``)."""
    exporters = {**known("keda"), **known("kube-state-metrics"), **known("dcgm-exporter")}
    wrong = set()
    for expression in expressions:
        for match in SELECTOR.finditer(expression):
            metric, labels = match[1], set(LABEL.findall(match[2] or ""))
            if metric in exporters:
                allowed = {*exporters[metric], *EXPORTED}
            elif served(metric):
                allowed = {*SERVER_LABELS, *TARGET}
            elif metric in recorded or metric == "ALERTS":
                allowed = RECORDED
            else:
                wrong.add(metric)
                continue
            wrong |= {f"{metric}{{{label}}}" for label in labels - allowed}
    return wrong
