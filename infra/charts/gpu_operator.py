"""NVIDIA's GPU Operator: chart gpu-operator. It brings device plugin, feature discovery, MIG manager and exporter."""

from infra.charts import dcgm_exporter, device_plugin
from infra.charts.gpu_nodes import GpuNodes
from infra.charts.images import Images
from infra.config.schema import DevicePlugin, GpuMetrics
from infra.prometheus import Prometheus
from infra.wire import JsonObject, JsonValue

SHARING_CONFIG = "device-plugin-sharing"
COUNTERS_CONFIG = "dcgm-exporter-counters"

# Where the chart's parts have their images; the ones for virtual machines too, which are off.
REPOSITORIES = {
    "nvcr.io/nvidia": (
        "operator",
        "validator",
        "driver",
        "devicePlugin",
        "gfd",
        "nodeStatusExporter",
        "sandboxDevicePlugin",
        "draDriver",
    ),
    "nvcr.io/nvidia/k8s": ("toolkit", "dcgmExporter"),
    "nvcr.io/nvidia/cloud-native": (
        "dcgm",
        "migManager",
        "gds",
        "gdrcopy",
        "vgpuDeviceManager",
        "vfioManager",
        "kataSandboxDevicePlugin",
        "ccManager",
    ),
}
# Parts with a second image, which prepares the driver.
DRIVER_MANAGERS = {"driver": "manager", "vgpuManager": "driverManager", "vfioManager": "driverManager"}


def values(
    plugin: DevicePlugin, metrics: GpuMetrics, nodes: GpuNodes, prometheus: Prometheus, images: Images
) -> JsonObject:
    """The values of gpu-operator. It finds the nodes with GPUs by itself, so that no affinity is set."""
    parts = _images(images)
    parts["driver"] |= {"enabled": plugin.driver}
    parts["toolkit"] |= {"enabled": plugin.toolkit}
    parts["dcgmExporter"] |= {
        "enabled": metrics.mode != "none",
        "env": dcgm_exporter.environment(metrics, plugin),
        "hostPID": dcgm_exporter.shared(plugin),
        "config": {"create": True, "name": COUNTERS_CONFIG, "data": dcgm_exporter.counters()},
        "serviceMonitor": dcgm_exporter.service_monitor(metrics, prometheus),
    }
    if plugin.sharing != "none":
        parts["devicePlugin"] |= {
            "config": {
                "create": True,
                "name": SHARING_CONFIG,
                "default": device_plugin.CONFIG,
                "data": {device_plugin.CONFIG: device_plugin.config(plugin)},
            }
        }
    chosen: JsonObject = {
        **parts,
        "mig": {"strategy": plugin.mig_strategy},
        "daemonsets": {"tolerations": nodes.tolerations},
        "node-feature-discovery": {
            "image": {"repository": images.at("registry.k8s.io/nfd/node-feature-discovery")},
            "imagePullSecrets": images.pull_secrets,
            "worker": {"tolerations": nodes.tolerations},
        },
    }
    return chosen


def _images(images: Images) -> dict[str, JsonObject]:
    secrets: JsonValue = list(images.pull_secret_names)
    parts: dict[str, JsonObject] = {
        part: {"repository": images.at(repository), "imagePullSecrets": secrets}
        for repository, names in REPOSITORIES.items()
        for part in names
    }
    for part, manager in DRIVER_MANAGERS.items():
        parts[part] = {**parts.get(part, {}), manager: {"repository": images.at("nvcr.io/nvidia/cloud-native")}}
    return parts
