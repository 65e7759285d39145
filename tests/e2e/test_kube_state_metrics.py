"""Prometheus of the local cluster knows the objects of the cluster, under the labels that alerts and dashboards ask for."""

import json
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from local.cluster.command import Kubectl
from local.cluster.layout import PAUSE_IMAGE

pytestmark = pytest.mark.e2e

NAMESPACE = "t-metrics"
PROMETHEUS = "/api/v1/namespaces/monitoring/services/prometheus-operated:9090/proxy/api/v1/query?query="
SEEN_SECONDS = 60.0  # the HPA's look, two scrapes, and some patience


@pytest.fixture(scope="module")
def scaled(kubectl: Kubectl) -> Iterator[None]:
    """A Deployment of two pods under an autoscaler."""
    template = {
        "metadata": {"labels": {"app": "a"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": PAUSE_IMAGE}]},
    }
    metadata = {"name": "a", "namespace": NAMESPACE}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}
    items = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "a"}}, "template": template},
        },
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": metadata,
            "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3},
        },
    ]
    try:
        kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        yield
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")


@pytest.mark.parametrize(
    "series",
    [
        'kube_deployment_status_replicas{namespace="t-metrics", deployment="a"}',
        'kube_horizontalpodautoscaler_status_current_replicas{namespace="t-metrics", horizontalpodautoscaler="a"}',
        # Not that of the pod which tells it, as it would be without honorLabels.
        'count(kube_pod_info{namespace="t-metrics", pod=~"a-.*", job="kube-state-metrics"})',
    ],
)
def test_prometheus_answers(kubectl: Kubectl, scaled: None, series: str) -> None:
    deadline = time.monotonic() + SEEN_SECONDS
    while True:
        found = json.loads(kubectl("get", "--raw", PROMETHEUS + quote(series)))["data"]["result"]
        values = [one["value"][1] for one in found]
        if values == ["2"]:
            return
        assert time.monotonic() < deadline, found
        time.sleep(1)
