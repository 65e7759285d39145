"""The values of every chart, for each way in which it can be installed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from infra.charts import dcgm_exporter, device_plugin, gpu_operator, keda, prometheus
from infra.charts.gpu_nodes import GpuNodes
from infra.charts.images import Images
from infra.config.parsing import Secret
from infra.config.schema import (
    DevicePlugin,
    ExistingMonitoring,
    GpuMetrics,
    GpuPool,
    InstallMonitoring,
    Mirror,
    Registry,
    Toleration,
)
from infra.prometheus import Prometheus
from infra.versions import (
    DCGM_EXPORTER,
    GPU_OPERATOR,
    KEDA,
    KUBE_PROMETHEUS_STACK,
    NVIDIA_DEVICE_PLUGIN,
    PROMETHEUS_OPERATOR_CRDS,
    Chart,
)
from infra.wire import JsonObject

POOL = GpuPool(
    gpu="L4",
    total=4,
    node_selector={"pool": "gpu"},
    tolerations=(Toleration(taint="spot", value="true", effect="NoSchedule"),),
    runtime_class="nvidia",
)
MIRROR = Mirror(
    images="mirror.example.org:5000/hub",
    registry=Registry(server="mirror.example.org:5000", username="reader", password=Secret("let-me-read")),
    pull_secret="replicated",
)
WEBHOOK = Secret("https://alerts.example.org/hooks/k1ngf1sher")
EXISTING = ExistingMonitoring(
    prometheus_address="http://prometheus.metrics.svc:9090", service_monitor_labels={"release": "metrics"}
)


@dataclass(frozen=True)
class Case:
    """One chart with one set of values."""

    name: str
    chart: Chart
    values: JsonObject

    def __str__(self) -> str:
        return self.name


def cases(mirror: Mirror | None) -> list[Case]:
    return list(_cases(Images(mirror=mirror)))


def _cases(images: Images) -> Iterator[Case]:
    nodes = GpuNodes.of({}, [POOL])
    install = InstallMonitoring()
    for monitoring in (install, EXISTING):
        asked = Prometheus.of(monitoring)
        yield Case(f"keda, monitoring {monitoring.TAG}", KEDA, keda.values(asked, images))
    for monitoring in (install, replace(install, alert_webhook=WEBHOOK, storage_class="fast", grafana=False)):
        name = "with" if monitoring.alert_webhook else "without"
        yield Case(f"prometheus {name} webhook", KUBE_PROMETHEUS_STACK, prometheus.values(monitoring, images))
    yield Case("prometheus definitions", PROMETHEUS_OPERATOR_CRDS, prometheus.crd_values())
    asked = Prometheus.of(EXISTING)
    for plugin in (
        DevicePlugin(),
        DevicePlugin(sharing="time-slicing", shares=4),
        DevicePlugin(sharing="mps", shares=4),
        DevicePlugin(mig_strategy="mixed"),
    ):
        kind = f"{plugin.sharing}, MIG {plugin.mig_strategy}"
        yield Case(f"plugin, {kind}", NVIDIA_DEVICE_PLUGIN, device_plugin.values(plugin, nodes, images))
        for metrics in (GpuMetrics(), GpuMetrics(mode="none", interval_seconds=5, honor_labels=False)):
            values = gpu_operator.values(plugin, metrics, nodes, asked, images)
            yield Case(f"operator, {kind}, metrics {metrics.mode}", GPU_OPERATOR, values)
        exporter = dcgm_exporter.values(GpuMetrics(mode="install"), plugin, nodes, asked, images)
        yield Case(f"exporter, {kind}", DCGM_EXPORTER, exporter)
