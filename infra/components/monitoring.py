"""Prometheus in the cluster."""

import pulumi

from infra.config import schema


class MonitoringStack(pulumi.ComponentResource):
    """Prometheus as the cluster has it: nothing is created, its address is handed on."""

    prometheus_address: str

    def __init__(self, name: str, args: schema.Monitoring, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:Monitoring", name, None, opts)
        self.prometheus_address = args.prometheus_address
        self.register_outputs({"mode": args.mode, "prometheus_address": self.prometheus_address})
