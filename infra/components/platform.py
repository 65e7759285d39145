"""What a cluster has once, for all its models."""

from dataclasses import dataclass

import pulumi

from infra.components.keda import Keda
from infra.components.monitoring import MonitoringStack
from infra.config import schema


@dataclass(frozen=True, kw_only=True)
class PlatformArgs:
    """Who provides each part."""

    keda: schema.Keda
    monitoring: schema.Monitoring


class Platform(pulumi.ComponentResource):
    """The autoscaler and the monitoring."""

    keda: Keda
    monitoring: MonitoringStack

    def __init__(self, name: str, args: PlatformArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:Platform", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.keda = Keda("keda", args.keda, child)
        assert isinstance(args.monitoring, schema.ExistingMonitoring)
        self.monitoring = MonitoringStack("monitoring", args.monitoring, child)
        self.register_outputs({"prometheus_address": self.monitoring.prometheus_address})
