"""What a cluster has once for all models: device plugin, autoscaler, monitoring."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from infra.config.parsing import key
from infra.config.schema.names import DNS_LABEL, HTTP_ADDRESS, MEMORY_QUANTITY, OBJECT_NAME, labels


@dataclass(frozen=True, kw_only=True)
class DevicePlugin:
    """Who offers the nodes' GPUs to pods, and how they are divided."""

    mode: Literal["install", "gpu-operator", "existing"] = key(
        "install: NVIDIA's device plugin; gpu-operator: NVIDIA's GPU Operator, which brings plugin and exporter; "
        "existing: it is there already, and the other keys say how it is set up",
        default="existing",
    )
    sharing: Literal["none", "time-slicing", "mps"] = key("how several pods share a GPU", default="none")
    shares: int = key("pods that share a GPU, where they do", default=1, minimum=1, maximum=48)
    mig_strategy: Literal["none", "single", "mixed"] = key(
        "how slices of a GPU (MIG) are offered: single as nvidia.com/gpu, mixed as nvidia.com/mig-<profile>",
        default="none",
    )
    driver: bool = key(
        "whether the GPU Operator installs the driver too (most GPU node images bring it)", default=False
    )
    toolkit: bool = key(
        "whether the GPU Operator sets up the container runtime too; false where the nodes' image has done it (AKS)",
        default=True,
    )
    node_selector: Mapping[str, str] = labels(
        "labels of the nodes with GPUs; when left out, those that NVIDIA, the clouds and gpu_pools put on such nodes"
    )


@dataclass(frozen=True, kw_only=True)
class GpuMetrics:
    """The DCGM exporter, from which GPU use, memory, temperature and faults are read."""

    mode: Literal["install", "existing", "none"] = key(
        "install: NVIDIA's dcgm-exporter; existing: one is scraped already; none: no GPU is watched; with "
        "device_plugin.mode gpu-operator the exporter is the operator's own, unless none",
        default="existing",
    )
    interval_seconds: int = key("seconds between two looks of the exporter", default=10, minimum=5, maximum=15)
    honor_labels: bool = key(
        "whether the scrape keeps the labels pod and namespace of the workload; false where they arrive as exported_pod "
        "and exported_namespace (the default of NVIDIA's charts)",
        default=True,
    )


@dataclass(frozen=True, kw_only=True)
class Keda:
    """The autoscaler."""

    mode: Literal["install", "existing"] = key(
        "who installs KEDA (one per cluster); existing: it is there already", default="existing"
    )
    namespace: str = key("KEDA's namespace", default="keda", pattern=DNS_LABEL, looks="a DNS label")


@dataclass(frozen=True, kw_only=True)
class InstallMonitoring:
    """The stack brings Prometheus, Alertmanager and Grafana."""

    TAG: ClassVar[str] = "install"

    namespace: str = key("the namespace of Prometheus", default="monitoring", pattern=DNS_LABEL, looks="a DNS label")
    scrape_interval_seconds: int = key(
        "seconds between two scrapes of a model's pod", default=15, minimum=1, maximum=120
    )
    retention_days: int = key("days for which measurements are kept", default=15, minimum=1)
    storage: str = key(
        "the size of Prometheus' volume", default="50Gi", pattern=MEMORY_QUANTITY, looks="a size such as 50Gi"
    )
    storage_class: str | None = key(
        "the volume's storage class; the cluster's default when left out",
        default=None,
        pattern=OBJECT_NAME,
        looks="a storage class's name",
    )
    grafana: bool = key("whether Grafana is installed, with the models' dashboard", default=True)
    runbooks: str = key(
        "the address under which docs/runbooks is read, for the links in alerts", default="docs/runbooks"
    )
    alert_webhook: str | None = key(
        "the address that Alertmanager posts alerts to; without it they are only shown",
        default=None,
        pattern=HTTP_ADDRESS,
        looks="an http or https address",
        secret=True,
    )


@dataclass(frozen=True, kw_only=True)
class ExistingMonitoring:
    """Prometheus and its operator are in the cluster already."""

    TAG: ClassVar[str] = "existing"

    prometheus_address: str = key(
        "the address of Prometheus as seen from KEDA's pods, such as http://prometheus-operated.monitoring.svc:9090",
        pattern=HTTP_ADDRESS,
        looks="an http or https address",
    )
    bearer_token: str | None = key("the token that Prometheus asks for, where it does", default=None, secret=True)
    namespace: str = key("the namespace of Prometheus", default="monitoring", pattern=DNS_LABEL, looks="a DNS label")
    scrape_interval_seconds: int = key(
        "seconds between two scrapes of a model's pod", default=15, minimum=1, maximum=120
    )
    runbooks: str = key(
        "the address under which docs/runbooks is read, for the links in alerts", default="docs/runbooks"
    )
    platform_alerts: bool = key(
        "whether this stack brings the alerts about GPUs, KEDA and kube-state-metrics, and the dashboard: one per cluster",
        default=False,
    )
    service_monitor_labels: Mapping[str, str] = labels(
        "labels by which Prometheus selects ServiceMonitors and rules (a kube-prometheus-stack often asks for `release`)"
    )


Monitoring = InstallMonitoring | ExistingMonitoring
