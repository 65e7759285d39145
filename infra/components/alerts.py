"""What is watched: the alerts of a model, and those of the platform with the dashboard."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra.components.monitoring import MonitoringStack
from infra.observability import DASHBOARD_LABELS, Dashboard, ModelRules, PlatformRules
from infra.versions import PROMETHEUS_OPERATOR_API
from infra.workload import MANAGED_BY_LABEL, PART_OF_LABEL

NAME = "llm-stack"
OWN_LABELS = {PART_OF_LABEL: "llm-stack", MANAGED_BY_LABEL: "pulumi"}


@dataclass(frozen=True, kw_only=True)
class ModelAlertsArgs:
    """Which rules, for which Prometheus; ``after``: what must be there before its absence is an outage."""

    rules: ModelRules
    monitoring: MonitoringStack
    namespace: pulumi.Input[str]
    after: tuple[pulumi.Resource, ...]


class ModelAlerts(pulumi.ComponentResource):
    """The PrometheusRule of a model."""

    def __init__(self, name: str, args: ModelAlertsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:ModelAlerts", name, None, opts)
        workload = args.rules.workload
        k8s.apiextensions.CustomResource(
            name,
            api_version=PROMETHEUS_OPERATOR_API,
            kind="PrometheusRule",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=workload.name,
                namespace=args.namespace,
                labels={**workload.labels, **args.monitoring.selector_labels},
            ),
            spec=args.rules.to_spec(),
            opts=pulumi.ResourceOptions(parent=self, depends_on=args.after),
        )
        self.register_outputs({})


@dataclass(frozen=True, kw_only=True)
class PlatformAlertsArgs:
    """Which rules and dashboard, for which Prometheus; ``after``: what must be there before its absence is an outage."""

    rules: PlatformRules
    dashboard: Dashboard
    monitoring: MonitoringStack
    after: tuple[pulumi.Resource, ...]


class PlatformAlerts(pulumi.ComponentResource):
    """The PrometheusRule of what a cluster has once, and the dashboard of all its models."""

    def __init__(self, name: str, args: PlatformAlertsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:PlatformAlerts", name, None, opts)
        monitoring = args.monitoring
        child = pulumi.ResourceOptions(parent=self, depends_on=[monitoring, *args.after])
        k8s.apiextensions.CustomResource(
            name,
            api_version=PROMETHEUS_OPERATOR_API,
            kind="PrometheusRule",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=NAME, namespace=monitoring.namespace, labels={**OWN_LABELS, **monitoring.selector_labels}
            ),
            spec=args.rules.to_spec(),
            opts=child,
        )
        k8s.core.v1.ConfigMap(
            f"{name}-dashboard",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=f"{NAME}-dashboard", namespace=monitoring.namespace, labels={**OWN_LABELS, **DASHBOARD_LABELS}
            ),
            data=args.dashboard.config_map_data(),
            opts=child,
        )
        self.register_outputs({})
