"""What runs in the cluster before any stack does: DNS, KEDA, kube-state-metrics, and a Prometheus under its operator.

The manifests of KEDA, of kube-state-metrics and of the Prometheus operator are upstream's own. Two values are set: the
namespace of the operator (upstream says `default`), and the pull policy of KEDA's images, which are made here and are in no
registry.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local.cluster.command import Kubectl
from local.cluster.images import ScratchImage
from local.cluster.layout import PAUSE_IMAGE
from local.screen import LocalError, Step
from local.toolchain import Tools

MANIFESTS = Path(__file__).parent / "manifests"
NON_ROOT = "65532:65532"
READY_SECONDS = 240.0  # 35 s seen on two idle cores; KEDA's pods restart once while they make their certificates
POLL_SECONDS = 0.5
CRD_SECONDS = 60
RECORD = "llm-stack-addons"  # a ConfigMap that says which manifests this cluster has


@dataclass(frozen=True)
class Rollout:
    """An object that tells by one field that its add-on serves."""

    title: str
    resource: str
    namespace: str
    path: str
    expected: str

    def done(self, kubectl: Kubectl) -> bool:
        return kubectl.jsonpath(self.resource, self.path, self.namespace) == self.expected


def _available(title: str, deployment: str, namespace: str) -> Rollout:
    return Rollout(title, f"deployment/{deployment}", namespace, "{.status.availableReplicas}", "1")


ROLLOUTS = (
    _available("DNS", "coredns", "kube-system"),
    _available("Prometheus operator", "prometheus-operator", "monitoring"),
    Rollout("Prometheus", "statefulset/prometheus-local", "monitoring", "{.status.availableReplicas}", "1"),
    _available("kube-state-metrics", "kube-state-metrics", "kube-system"),
    _available("KEDA operator", "keda-operator", "keda"),
    _available("KEDA webhook", "keda-admission", "keda"),
    _available("KEDA metrics adapter", "keda-metrics-apiserver", "keda"),
    Rollout(
        "external metrics API",
        "apiservice/v1beta1.external.metrics.k8s.io",
        "",
        '{.status.conditions[?(@.type=="Available")].status}',
        "True",
    ),
)


def images(tools: Tools) -> tuple[ScratchImage, ...]:
    """Every image that the cluster's own pods run."""

    def image(name: str, binary: Path, inside: str, user: str = NON_ROOT) -> ScratchImage:
        return ScratchImage(name=name, binaries={inside: binary}, entrypoint=(inside,), user=user)

    return (
        image(PAUSE_IMAGE, tools.pause, "/pause"),
        image("registry.k8s.io/coredns/coredns:v1.14.7", tools.coredns, "/coredns"),
        image("ghcr.io/kedacore/keda:main", tools.keda_operator, "/keda"),
        image("ghcr.io/kedacore/keda-metrics-apiserver:main", tools.keda_adapter, "/keda-adapter"),
        image("ghcr.io/kedacore/keda-admission-webhooks:main", tools.keda_webhooks, "/keda-admission-webhooks"),
        image("quay.io/prometheus-operator/prometheus-operator:v0.93.0", tools.prometheus_operator, "/bin/operator"),
        image(
            "quay.io/prometheus-operator/prometheus-config-reloader:v0.93.0",
            tools.prometheus_config_reloader,
            "/bin/prometheus-config-reloader",
        ),
        image("quay.io/prometheus/prometheus:v3.14.0", tools.prometheus, "/bin/prometheus"),
        image(
            "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.20.0",
            tools.kube_state_metrics,
            "/kube-state-metrics",
        ),
    )


def install(kubectl: Kubectl, tools: Tools, step: Step) -> bool:
    """Applies what this cluster does not have yet and waits until all of it serves; returns whether anything was applied."""
    manifests = tuple(_manifests(kubectl, tools))
    key = hashlib.sha256("\n".join(text for _, text in manifests).encode()).hexdigest()
    current = kubectl.jsonpath(f"configmap/{RECORD}", "{.data.manifests}", "kube-system") == key
    if not current:
        for title, text in manifests:
            step.report(f"applying {title}")
            kubectl.apply(text)
            # The next manifest may hold objects of a kind that this one has defined.
            kubectl("wait", "--for=condition=Established", "crd", "--all", f"--timeout={CRD_SECONDS}s")
    _wait(kubectl, step)
    if not current:
        kubectl.apply(json.dumps({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": RECORD, "namespace": "kube-system"},
            "data": {"manifests": key},
        }))  # fmt: skip
    return not current


def _manifests(kubectl: Kubectl, tools: Tools) -> Iterator[tuple[str, str]]:
    operator = (tools.prometheus_operator_share / "bundle.yaml").read_text()
    yield (
        "the Prometheus operator",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: monitoring}\n---\n"
        + operator.replace("namespace: default", "namespace: monitoring"),
    )
    keda = kubectl("kustomize", str(tools.keda_share / "config" / "default"))
    yield "KEDA", keda.replace("imagePullPolicy: Always", "imagePullPolicy: IfNotPresent")
    yield "DNS", (MANIFESTS / "dns.yaml").read_text()
    yield "Prometheus", (MANIFESTS / "prometheus.yaml").read_text()
    yield (
        "kube-state-metrics",
        kubectl("kustomize", str(tools.kube_state_metrics_share / "standard"))
        + "---\n"
        + (MANIFESTS / "kube-state-metrics.yaml").read_text(),
    )


def _wait(kubectl: Kubectl, step: Step) -> None:
    deadline = time.monotonic() + READY_SECONDS
    waiting = list(ROLLOUTS)
    while waiting := [rollout for rollout in waiting if not rollout.done(kubectl)]:
        step.report(
            f"{len(ROLLOUTS) - len(waiting)} of {len(ROLLOUTS)} ready, waiting for {', '.join(r.title for r in waiting)}"
        )
        if time.monotonic() > deadline:
            raise LocalError(
                f"{waiting[0].title} was not ready after {READY_SECONDS:.0f} s",
                f"`kubectl describe {waiting[0].resource} -n {waiting[0].namespace or 'default'}` says why; "
                "then run `make up` again.",
            )
        time.sleep(POLL_SECONDS)
