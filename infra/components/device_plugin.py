"""The GPUs of the nodes, offered to pods."""

from dataclasses import dataclass

import pulumi

from infra.charts import device_plugin, gpu_operator
from infra.charts.gpu_nodes import GpuNodes
from infra.components.release import NamespaceArgs, ReleaseArgs, Sources, namespace, release
from infra.config import schema
from infra.prometheus import Prometheus
from infra.versions import GPU_OPERATOR, NVIDIA_DEVICE_PLUGIN, Chart
from infra.wire import JsonObject


@dataclass(frozen=True, kw_only=True)
class NvidiaDevicePluginArgs:
    """Who offers the GPUs of which nodes; the rest concerns the exporter that the GPU Operator brings."""

    plugin: schema.DevicePlugin
    metrics: schema.GpuMetrics
    nodes: GpuNodes
    prometheus: Prometheus
    sources: Sources
    after: tuple[pulumi.Resource, ...] = ()


class NvidiaDevicePlugin(pulumi.ComponentResource):
    """NVIDIA's device plugin, alone or as part of the GPU Operator; nothing where the cluster has one."""

    def __init__(self, name: str, args: NvidiaDevicePluginArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:NvidiaDevicePlugin", name, None, opts)
        match args.plugin.mode:
            case "install":
                chosen = device_plugin.values(args.plugin, args.nodes, args.sources.images)
                self._install(NVIDIA_DEVICE_PLUGIN, chosen, args.sources, ())
            case "gpu-operator":
                chosen = gpu_operator.values(
                    args.plugin, args.metrics, args.nodes, args.prometheus, args.sources.images
                )
                self._install(GPU_OPERATOR, chosen, args.sources, args.after)
            case "existing":
                pass
        self.register_outputs({"mode": args.plugin.mode})

    def _install(self, chart: Chart, values: JsonObject, sources: Sources, after: tuple[pulumi.Resource, ...]) -> None:
        child = pulumi.ResourceOptions(parent=self)
        where = NamespaceArgs(sources=sources, pod_security="privileged", critical=True)
        release(
            chart.name,
            ReleaseArgs(
                chart=chart,
                namespace=namespace(chart.name, where, child),
                values=values,
                sources=sources,
                after=after,
            ),
            child,
        )
