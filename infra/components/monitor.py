"""The scraping of a model; it belongs to the model, whoever runs Prometheus."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra.components.monitoring import MonitoringStack
from infra.service_monitor import ServiceMonitor
from infra.versions import PROMETHEUS_OPERATOR_API
from infra.workload import Workload


@dataclass(frozen=True, kw_only=True)
class ModelMonitorArgs:
    """Which model, scraped by which Prometheus."""

    workload: Workload
    monitoring: MonitoringStack
    namespace: pulumi.Input[str]


class ModelMonitor(pulumi.ComponentResource):
    """The ServiceMonitor of a model."""

    service_monitor: k8s.apiextensions.CustomResource

    def __init__(self, name: str, args: ModelMonitorArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:ModelMonitor", name, None, opts)
        workload, prometheus = args.workload, args.monitoring.prometheus
        self.service_monitor = k8s.apiextensions.CustomResource(
            name,
            api_version=PROMETHEUS_OPERATOR_API,
            kind="ServiceMonitor",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=workload.name,
                namespace=args.namespace,
                labels={**workload.labels, **prometheus.selector_labels},
            ),
            spec=ServiceMonitor(workload=workload, interval=prometheus.scrape_interval_seconds).to_spec(),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args.monitoring]),
        )
        self.register_outputs({})
