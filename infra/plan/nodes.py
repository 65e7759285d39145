"""Whether the device plugin finds the nodes with GPUs."""

from collections.abc import Iterator

from infra.config.schema import StackConfig
from infra.findings import Finding, warning


def findings(config: StackConfig) -> Iterator[Finding]:
    """Pools whose nodes the device plugin knows only by labels that others put on them."""
    plugin = config.device_plugin
    # For MPS the chart brings node feature discovery, which labels every node with a GPU.
    if plugin.mode != "install" or plugin.node_selector or plugin.sharing == "mps":
        return
    used = {model.gpus.pool for model in config.models.values()}
    for name, pool in config.gpu_pools.items():
        if name in used and not pool.node_selector:
            yield warning(
                f"gpu_pools.{name}.node_selector",
                "none",
                "leaves the device plugin to labels that AKS, Karpenter, GKE or node feature discovery put on nodes with GPUs: "
                "where none of them does (EKS node groups), it runs nowhere and no pod gets a GPU",
                "Name a label of the pool's nodes.",
            )
