"""NVIDIA's device plugin: chart nvidia-device-plugin."""

import yaml

from infra.charts.gpu_nodes import GpuNodes
from infra.charts.images import Images
from infra.config.schema import DevicePlugin
from infra.wire import JsonObject

# The only configuration of the plugin, which is then that of every node.
CONFIG = "default"


def values(plugin: DevicePlugin, nodes: GpuNodes, images: Images) -> JsonObject:
    """The values of nvidia-device-plugin.

    The affinity takes the place of the chart's own, which asks for labels of node feature discovery: where that is not
    installed, the chart's schedules nothing and says nothing.
    """
    chosen: JsonObject = {
        "image": {"repository": images.at("nvcr.io/nvidia/k8s-device-plugin")},
        "imagePullSecrets": images.pull_secrets,
        # The plugin's own default; said because the chart adds SYS_ADMIN where a configuration might ask for another.
        "deviceListStrategy": "envvar",
        "migStrategy": plugin.mig_strategy,
        "affinity": nodes.affinity,
        "tolerations": nodes.tolerations,
    }
    if nodes.runtime_class is not None:
        chosen["runtimeClassName"] = nodes.runtime_class
    if plugin.sharing != "none":
        chosen["config"] = {"map": {CONFIG: config(plugin)}, "default": CONFIG}
    if plugin.sharing == "mps":
        # The MPS daemon runs where GPU feature discovery has labelled the node as capable of it; that one hands its
        # labels to node feature discovery.
        chosen["gfd"] = {"enabled": True}
        chosen["nfd"] = {
            "image": {"repository": images.at("registry.k8s.io/nfd/node-feature-discovery")},
            "imagePullSecrets": images.pull_secrets,
            "worker": {"tolerations": nodes.tolerations},
        }
    return chosen


def config(plugin: DevicePlugin) -> str:
    """The plugin's configuration file (version v1) for GPUs that several pods share."""
    kind = {"time-slicing": "timeSlicing", "mps": "mps"}[plugin.sharing]
    return yaml.safe_dump(
        {
            "version": "v1",
            "flags": {"migStrategy": plugin.mig_strategy},
            "sharing": {
                kind: {
                    # Two shares of a GPU are not two GPUs: a pod that asks for them would wait for what it has.
                    "failRequestsGreaterThanOne": True,
                    "resources": [{"name": "nvidia.com/gpu", "replicas": plugin.shares}],
                }
            },
        },
        sort_keys=False,
    )
