"""What the GPUs do, measured."""

from dataclasses import dataclass

import pulumi

from infra.charts import dcgm_exporter
from infra.charts.gpu_nodes import GpuNodes
from infra.components.release import NamespaceArgs, ReleaseArgs, Sources, namespace, release
from infra.config import schema
from infra.prometheus import Prometheus
from infra.versions import DCGM_EXPORTER


@dataclass(frozen=True, kw_only=True)
class GpuMetricsArgs:
    """Who measures the GPUs of which nodes, for which Prometheus; ``plugin`` says whether pods share them."""

    metrics: schema.GpuMetrics
    plugin: schema.DevicePlugin
    nodes: GpuNodes
    prometheus: Prometheus
    sources: Sources
    after: tuple[pulumi.Resource, ...] = ()


class GpuMetrics(pulumi.ComponentResource):
    """NVIDIA's DCGM exporter; nothing where the cluster has one, or the GPU Operator brings its own."""

    def __init__(self, name: str, args: GpuMetricsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:GpuMetrics", name, None, opts)
        if args.metrics.mode == "install" and args.plugin.mode != "gpu-operator":
            child = pulumi.ResourceOptions(parent=self)
            where = NamespaceArgs(sources=args.sources, pod_security="privileged", critical=True)
            release(
                DCGM_EXPORTER.name,
                ReleaseArgs(
                    chart=DCGM_EXPORTER,
                    namespace=namespace(DCGM_EXPORTER.name, where, child),
                    values=dcgm_exporter.values(
                        args.metrics, args.plugin, args.nodes, args.prometheus, args.sources.images
                    ),
                    sources=args.sources,
                    after=args.after,
                ),
                child,
            )
        self.register_outputs({"mode": args.metrics.mode})
