"""Prometheus in the cluster."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra.charts import prometheus
from infra.components.release import NamespaceArgs, ReleaseArgs, Sources, namespace, release
from infra.config import schema
from infra.prometheus import Prometheus
from infra.versions import KUBE_PROMETHEUS_STACK, PROMETHEUS_OPERATOR_CRDS


@dataclass(frozen=True, kw_only=True)
class MonitoringStackArgs:
    """Who installs Prometheus."""

    monitoring: schema.Monitoring
    sources: Sources


class MonitoringStack(pulumi.ComponentResource):
    """Prometheus, Alertmanager and Grafana, or what the cluster has; whatever is scraped depends on it.

    The definitions of ServiceMonitor and rule are a release of their own: they are upgraded with it, and stay on
    destroy, with the ServiceMonitors of other stacks.
    """

    prometheus: Prometheus
    prometheus_address: str
    namespace: str
    selector_labels: Mapping[str, str]  # by which Prometheus selects ServiceMonitors and rules

    def __init__(self, name: str, args: MonitoringStackArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:Monitoring", name, None, opts)
        self.prometheus = Prometheus.of(args.monitoring)
        self.prometheus_address = self.prometheus.address
        self.namespace = self.prometheus.namespace
        self.selector_labels = self.prometheus.selector_labels
        if isinstance(args.monitoring, schema.InstallMonitoring):
            self._install(args.monitoring, args.sources)
        self.register_outputs({"prometheus_address": self.prometheus_address})

    def _install(self, monitoring: schema.InstallMonitoring, sources: Sources) -> None:
        child = pulumi.ResourceOptions(parent=self)
        # The exporter of the nodes' own measurements shares their network and processes.
        where = namespace(monitoring.namespace, NamespaceArgs(sources=sources, pod_security="privileged"), child)
        definitions = release(
            PROMETHEUS_OPERATOR_CRDS.name,
            ReleaseArgs(
                chart=PROMETHEUS_OPERATOR_CRDS,
                namespace=where,
                values=prometheus.crd_values(),
                sources=sources,
            ),
            child,
        )
        after: tuple[pulumi.Resource, ...] = (definitions,)
        if monitoring.alert_webhook is not None:
            after += (_webhook(where, monitoring.alert_webhook, child),)
        release(
            KUBE_PROMETHEUS_STACK.name,
            ReleaseArgs(
                chart=KUBE_PROMETHEUS_STACK,
                namespace=where,
                values=prometheus.values(monitoring, sources.images),
                sources=sources,
                after=after,
            ),
            child,
        )


def _webhook(namespace: pulumi.Output[str], url: str, opts: pulumi.ResourceOptions) -> k8s.core.v1.Secret:
    # The values of a release are readable in the cluster and in the state; an address like this one is a password.
    return k8s.core.v1.Secret(
        prometheus.WEBHOOK_SECRET,
        metadata=k8s.meta.v1.ObjectMetaArgs(name=prometheus.WEBHOOK_SECRET, namespace=namespace),
        string_data={prometheus.WEBHOOK_KEY: pulumi.Output.secret(url)},
        opts=opts,
    )
