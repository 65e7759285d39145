"""Prometheus in the cluster."""

from collections.abc import Mapping

import pulumi

from infra.config.schema import ExistingMonitoring


class MonitoringStack(pulumi.ComponentResource):
    """Prometheus as the cluster has it: nothing is created, its address is handed on."""

    prometheus_address: str
    namespace: str
    selector_labels: Mapping[str, str]

    def __init__(self, name: str, args: ExistingMonitoring, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:Monitoring", name, None, opts)
        self.prometheus_address = args.prometheus_address
        self.namespace = args.namespace
        self.selector_labels = args.service_monitor_labels
        self.register_outputs({"prometheus_address": self.prometheus_address})
