"""Which series belong to a model, in PromQL: one place that knows the labels of every exporter.

Who writes ``namespace`` and ``pod`` differs. The model's server and kube-state-metrics (scraped with ``honorLabels``, as
kube-prometheus-stack does) have the workload's own. KEDA's operator is scraped without by its own chart, so that the
ScaledObject's namespace arrives as ``exported_namespace``; ingress-nginx is scraped in either way; of both, both spellings are
asked for. The DCGM exporter's is a choice of whoever installed it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from infra.workload import Workload


class Like(str):
    """A label's value given as a regular expression that it must match."""


class Not(str):
    """A value that a label must not have."""


class Unlike(str):
    """A label's value given as a regular expression that it must not match."""


OPERATORS: Mapping[type, str] = {Like: "=~", Not: "!=", Unlike: "!~"}


def matchers(labels: Mapping[str, str]) -> str:
    """Label matchers, as they stand between braces."""
    return ",".join(f"{name}{OPERATORS.get(type(value), '=')}{json.dumps(value)}" for name, value in labels.items())


@dataclass(frozen=True, kw_only=True)
class ModelSeries:
    """The series of one model. ``honor_labels`` as in the configuration of the DCGM exporter's scrape."""

    namespace: str
    name: str
    honor_labels: bool = True

    @classmethod
    def of(cls, workload: Workload, *, honor_labels: bool = True) -> "ModelSeries":
        return cls(namespace=workload.namespace, name=workload.name, honor_labels=honor_labels)

    @property
    def pods(self) -> Like:
        """The names of its pods: <Deployment>-<hash>-<5 characters>.

        The API server cuts what is before the last five at 58 characters, and with it the dash before them. Source:
        k8s.io/apiserver, pkg/storage/names/generate.go.
        """
        return Like(f"{self.name}-[0-9a-z]+-?[0-9a-z]{{5}}")

    def server(self, metric: str, **labels: str) -> str:
        """What the pods themselves expose; the Prometheus operator writes ``namespace`` and ``service``."""
        return f"{metric}{{{matchers({'namespace': self.namespace, 'service': self.name, **labels})}}}"

    def deployment(self, metric: str) -> str:
        return f"{metric}{{{matchers({'namespace': self.namespace, 'deployment': self.name})}}}"

    def autoscaler(self, metric: str, **labels: str) -> str:
        """The HorizontalPodAutoscaler that KEDA makes of the ScaledObject."""
        own = {"namespace": self.namespace, "horizontalpodautoscaler": f"keda-hpa-{self.name}"}
        return f"{metric}{{{matchers({**own, **labels})}}}"

    def pod(self, metric: str, **labels: str) -> str:
        return f"{metric}{{{matchers({'namespace': self.namespace, 'pod': self.pods, **labels})}}}"

    def gpu(self, metric: str) -> str:
        """The GPUs that the model's pods hold."""
        exported = "" if self.honor_labels else "exported_"
        return f"{metric}{{{matchers({f'{exported}namespace': self.namespace, f'{exported}pod': self.pods})}}}"

    @property
    def gpu_pod(self) -> str:
        """The label that names the pod which holds a GPU."""
        return "pod" if self.honor_labels else "exported_pod"

    def keda(self, metric: str, named: str, **labels: str) -> tuple[str, str]:
        """What KEDA's operator counts for the ScaledObject, in both spellings; ``named`` is the label with its name."""
        return self._spelled(metric, {named: self.name, **labels})

    def ingress(self, metric: str) -> tuple[str, str]:
        """What ingress-nginx's controller counts for the model's Ingress, in both spellings."""
        return self._spelled(metric, {"ingress": self.name})

    def _spelled(self, metric: str, own: Mapping[str, str]) -> tuple[str, str]:
        """The series whose namespace came with them: where the scrape renamed it, and where it kept it; none is in both."""
        places = ({"exported_namespace": self.namespace}, {"exported_namespace": "", "namespace": self.namespace})
        exported, honored = (f"{metric}{{{matchers({**own, **place})}}}" for place in places)
        return exported, honored
