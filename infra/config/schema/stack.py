"""Everything that a stack can be told."""

# ruff: noqa: RUF009 -- key() makes the field itself; it is no default that instances would share

from collections.abc import Mapping
from dataclasses import dataclass

from infra.config.parsing import key
from infra.config.schema.cluster import Cluster, Cost, GpuPool
from infra.config.schema.images import Charts, Image, Mirror, PublisherCharts
from infra.config.schema.model import Model
from infra.config.schema.names import DNS_LABEL, MODEL_NAME
from infra.config.schema.platform import DevicePlugin, GpuMetrics, Keda, Monitoring


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Everything that a stack can be told."""

    cluster: Cluster = key("which cluster, and where in it")
    image: Image = key("the server's image", tag="mode")
    monitoring: Monitoring = key("the Prometheus that scrapes the models and answers KEDA", tag="mode")
    models: Mapping[str, Model] = key(
        "one entry per model, by name",
        pattern=MODEL_NAME,
        looks="a name of lower-case letters, digits and dashes, at most 46 long",
    )
    keda: Keda = key("the autoscaler", default=Keda())
    device_plugin: DevicePlugin = key("who offers the nodes' GPUs to pods", default=DevicePlugin())
    gpu_metrics: GpuMetrics = key("from where GPU use, memory and faults are read", default=GpuMetrics())
    gpu_pools: Mapping[str, GpuPool] = key(
        "the nodes with GPUs, one entry per kind", default_factory=dict, pattern=DNS_LABEL, looks="a DNS label"
    )
    cost: Cost = key("what the GPUs may cost", default=Cost())
    charts: Charts = key("where Helm charts come from", default=PublisherCharts(), tag="source")
    mirror: Mirror | None = key("a registry of one's own for the images that charts bring", default=None)
