"""Which nodes have GPUs, and what a pod needs to run on each of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infra.accelerator import GPU_RESOURCE
from infra.config.schema import GpuPool, Toleration
from infra.wire import JsonObject

# Any one of these says that a node has an NVIDIA GPU; without a value, the label's being there does.
WELL_KNOWN_LABELS = (
    ("nvidia.com/gpu.present", "true"),  # GPU Operator, or put there by hand
    ("feature.node.kubernetes.io/pci-10de.present", "true"),  # node feature discovery, by vendor
    ("feature.node.kubernetes.io/pci-0300_10de.present", "true"),  # … by class (display) and vendor, its default
    ("feature.node.kubernetes.io/pci-0302_10de.present", "true"),  # … by class (3D) and vendor
    ("cloud.google.com/gke-accelerator", None),  # GKE
    ("kubernetes.azure.com/accelerator", "nvidia"),  # AKS
    ("karpenter.k8s.aws/instance-gpu-manufacturer", "nvidia"),  # Karpenter on EKS
    ("eks.amazonaws.com/instance-gpu-manufacturer", "nvidia"),  # EKS Auto Mode
    ("k8s.amazonaws.com/accelerator", None),  # EKS node groups, as the cluster autoscaler wants them labelled
)


@dataclass(frozen=True, kw_only=True)
class GpuNodes:
    """``affinity`` and ``tolerations`` as a pod's spec has them; ``runtime_class`` where the nodes need one."""

    affinity: JsonObject
    tolerations: list[JsonObject]
    runtime_class: str | None

    @classmethod
    def of(cls, selector: Mapping[str, str], pools: Iterable[GpuPool]) -> "GpuNodes":
        """The nodes that ``selector`` names; without one, those with a well-known label or the labels of a pool.

        One DaemonSet serves all pools: it gets a runtime class only where the pools agree on it.
        """
        pools = tuple(pools)
        if selector:
            terms = [_term(selector)]
        else:
            terms = [_term({label: value}) for label, value in WELL_KNOWN_LABELS]
            terms += [_term(pool.node_selector) for pool in pools if pool.node_selector]
        taints: list[JsonObject] = [{"key": GPU_RESOURCE, "operator": "Exists"}]
        for pool in pools:
            taints += [taint for taint in map(_toleration, pool.tolerations) if taint not in taints]
        classes = {pool.runtime_class for pool in pools}
        return cls(
            affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}},
            tolerations=taints,
            runtime_class=classes.pop() if len(classes) == 1 else None,
        )


def _term(labels: Mapping[str, str | None]) -> JsonObject:
    return {"matchExpressions": [_expression(label, value) for label, value in labels.items()]}


def _expression(label: str, value: str | None) -> JsonObject:
    if value is None:
        return {"key": label, "operator": "Exists"}
    return {"key": label, "operator": "In", "values": [value]}


def _toleration(toleration: Toleration) -> JsonObject:
    rendered: JsonObject = {"key": toleration.taint, "operator": "Exists"}
    if toleration.value is not None:
        rendered |= {"operator": "Equal", "value": toleration.value}
    if toleration.effect is not None:
        rendered |= {"effect": toleration.effect}
    return rendered
