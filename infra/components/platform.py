"""What a cluster has once, for all its models."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from infra.charts.gpu_nodes import GpuNodes
from infra.components.alerts import PlatformAlerts, PlatformAlertsArgs
from infra.components.device_plugin import NvidiaDevicePlugin, NvidiaDevicePluginArgs
from infra.components.gpu_metrics import GpuMetrics, GpuMetricsArgs
from infra.components.keda import Keda, KedaArgs
from infra.components.monitoring import MonitoringStack, MonitoringStackArgs
from infra.components.release import Sources
from infra.config import schema
from infra.observability import Dashboard, PlatformRules
from infra.prometheus import Prometheus


@dataclass(frozen=True, kw_only=True)
class PlatformArgs:
    """Who provides each part, for which nodes with GPUs, and where what is installed comes from."""

    device_plugin: schema.DevicePlugin
    gpu_metrics: schema.GpuMetrics
    keda: schema.Keda
    monitoring: schema.Monitoring
    gpu_pools: Mapping[str, schema.GpuPool]
    charts: schema.Charts
    mirror: schema.Mirror | None


class Platform(pulumi.ComponentResource):
    """GPUs, their metrics, the autoscaler and the monitoring; each part installed, or there already.

    Prometheus comes first: what is scraped asks for its definitions.
    """

    prometheus: Prometheus
    device_plugin: NvidiaDevicePlugin
    gpu_metrics: GpuMetrics
    keda: Keda
    monitoring: MonitoringStack

    def __init__(self, name: str, args: PlatformArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:Platform", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        sources = Sources(charts=args.charts, mirror=args.mirror)
        nodes = GpuNodes.of(args.device_plugin.node_selector, args.gpu_pools.values())
        self.monitoring = MonitoringStack(
            "monitoring", MonitoringStackArgs(monitoring=args.monitoring, sources=sources), child
        )
        self.prometheus = self.monitoring.prometheus
        self.keda = Keda(
            "keda",
            KedaArgs(keda=args.keda, prometheus=self.prometheus, sources=sources, after=(self.monitoring,)),
            child,
        )
        self.device_plugin = NvidiaDevicePlugin(
            "device-plugin",
            NvidiaDevicePluginArgs(
                plugin=args.device_plugin,
                metrics=args.gpu_metrics,
                nodes=nodes,
                prometheus=self.prometheus,
                sources=sources,
                after=(self.monitoring,),
            ),
            child,
        )
        self.gpu_metrics = GpuMetrics(
            "gpu-metrics",
            GpuMetricsArgs(
                metrics=args.gpu_metrics,
                plugin=args.device_plugin,
                nodes=nodes,
                prometheus=self.prometheus,
                sources=sources,
                after=(self.monitoring,),
            ),
            child,
        )
        if isinstance(args.monitoring, schema.InstallMonitoring) or args.monitoring.platform_alerts:
            watched = args.gpu_metrics.mode != "none" and bool(args.gpu_pools)
            PlatformAlerts(
                "alerts",
                PlatformAlertsArgs(
                    rules=PlatformRules(gpus=watched, runbooks=args.monitoring.runbooks),
                    dashboard=Dashboard(gpus=watched, honor_labels=args.gpu_metrics.honor_labels),
                    monitoring=self.monitoring,
                    after=(self.keda, self.gpu_metrics),
                ),
                child,
            )
        self.register_outputs({"prometheus_address": self.prometheus.address})
