"""NVIDIA's exporter of GPU metrics: chart dcgm-exporter, and what the GPU Operator's own exporter shares with it."""

from infra.charts.gpu_nodes import GpuNodes
from infra.charts.images import Images
from infra.config.schema import DevicePlugin, GpuMetrics
from infra.prometheus import Prometheus
from infra.wire import JsonObject

MILLISECONDS = 1000
# The chart's own limit for a scrape; the operator of Prometheus refuses one that is longer than the interval.
SCRAPE_TIMEOUT_SECONDS = 10

# What is measured: field, Prometheus type, help. The chart's list and the image's differ (FB_RESERVED is missing in the
# chart's, without which there is no total of the memory), and neither counts the faults of a window: XID_ERRORS alone
# keeps the last fault's code for ever. Fields: NVIDIA/dcgm-exporter, etc/default-counters.csv at 4.5.3-4.8.2.
COUNTERS = (
    ("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock in MHz"),
    ("DCGM_FI_DEV_MEM_CLOCK", "gauge", "memory clock in MHz"),
    ("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature in degrees Celsius"),
    ("DCGM_FI_DEV_MEMORY_TEMP", "gauge", "memory temperature in degrees Celsius"),
    ("DCGM_FI_DEV_POWER_USAGE", "gauge", "power draw in W"),
    ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", "energy since boot in mJ"),
    ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "counter", "PCIe retries"),
    ("DCGM_FI_DEV_GPU_UTIL", "gauge", "share of time with a kernel running in percent"),
    ("DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", "share of time with memory read or written in percent"),
    ("DCGM_FI_DEV_XID_ERRORS", "gauge", "code of the last XID error"),
    ("DCGM_EXP_XID_ERRORS_COUNT", "gauge", "XID errors of the last minutes by code"),
    ("DCGM_FI_DEV_FB_FREE", "gauge", "free memory in MiB"),
    ("DCGM_FI_DEV_FB_USED", "gauge", "used memory in MiB"),
    ("DCGM_FI_DEV_FB_RESERVED", "gauge", "reserved memory in MiB"),
    ("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", "counter", "NVLink traffic over all lanes"),
    ("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "counter", "memory rows remapped after uncorrectable errors"),
    ("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "counter", "memory rows remapped after correctable errors"),
    ("DCGM_FI_DEV_ROW_REMAP_FAILURE", "gauge", "1 after a memory row could not be remapped"),
    ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "gauge", "share of time with the compute engine active; of slices (MIG) too"),
    ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "gauge", "share of cycles with the tensor cores active"),
    ("DCGM_FI_PROF_DRAM_ACTIVE", "gauge", "share of cycles with the memory interface active"),
    ("DCGM_FI_PROF_PCIE_TX_BYTES", "gauge", "bytes per second sent over PCIe"),
    ("DCGM_FI_PROF_PCIE_RX_BYTES", "gauge", "bytes per second received over PCIe"),
)


def values(
    metrics: GpuMetrics, plugin: DevicePlugin, nodes: GpuNodes, prometheus: Prometheus, images: Images
) -> JsonObject:
    """The values of dcgm-exporter. TLS stays off: the chart would make a new certificate at each upgrade."""
    chosen: JsonObject = {
        "image": {"repository": images.at("nvcr.io/nvidia/k8s/dcgm-exporter")},
        "imagePullSecrets": images.pull_secrets,
        "affinity": nodes.affinity,
        "tolerations": nodes.tolerations,
        "extraEnv": environment(metrics, plugin),
        "hostPID": shared(plugin),
        "customMetrics": counters(),
        "serviceMonitor": service_monitor(metrics, prometheus),
    }
    if nodes.runtime_class is not None:
        chosen["runtimeClassName"] = nodes.runtime_class
    return chosen


def shared(plugin: DevicePlugin) -> bool:
    """Whether several pods share a GPU.

    The exporter then tells use and memory of each by its processes, and needs the host's process ids for it: without
    them it reports 0 for every pod.
    """
    return plugin.sharing != "none"


def environment(metrics: GpuMetrics, plugin: DevicePlugin) -> list[JsonObject]:
    variables = {"DCGM_EXPORTER_INTERVAL": str(metrics.interval_seconds * MILLISECONDS)}
    if shared(plugin):
        # Without it only the last of the pods that share a GPU gets a series.
        variables["KUBERNETES_VIRTUAL_GPUS"] = "true"
    return [{"name": name, "value": value} for name, value in variables.items()]


def service_monitor(metrics: GpuMetrics, prometheus: Prometheus) -> JsonObject:
    """The scrape of the exporter: as often as it looks, since a second scrape would bring the same sample again."""
    return {
        "enabled": True,
        "interval": f"{metrics.interval_seconds}s",
        "scrapeTimeout": f"{min(metrics.interval_seconds, SCRAPE_TIMEOUT_SECONDS)}s",
        "honorLabels": metrics.honor_labels,
        "additionalLabels": dict(prometheus.selector_labels),
    }


def counters() -> str:
    """The exporter's list of what it measures."""
    return "\n".join(", ".join(counter) for counter in COUNTERS)
