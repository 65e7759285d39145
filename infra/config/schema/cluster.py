"""Which cluster, and the GPUs that it has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from infra.config.parsing import key
from infra.config.schema.names import DNS_LABEL, LABEL_NAME, LABEL_VALUE, labels


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Which cluster, and where in it."""

    identifier: str = key("a name for the cluster that never changes, so that a new kubeconfig replaces nothing")
    context: str = key("the context of the kubeconfig (file named by KUBECONFIG) to deploy to")
    namespace: str = key("the namespace of the models", pattern=DNS_LABEL, looks="a DNS label")
    create_namespace: bool = key(
        "whether the stack makes the namespace, and removes it with everything in it when it is destroyed", default=True
    )


@dataclass(frozen=True, kw_only=True)
class Toleration:
    """A taint that pods put up with."""

    taint: str = key("the taint's key", pattern=LABEL_NAME, looks="a taint's key, such as nvidia.com/gpu")
    value: str | None = key(
        "the taint's value; any when left out", default=None, pattern=LABEL_VALUE, looks="a taint's value"
    )
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = key(
        "the taint's effect; any when left out", default=None
    )


@dataclass(frozen=True, kw_only=True)
class GpuPool:
    """Nodes with GPUs of one kind."""

    gpu: str = key("the GPU of the pool's nodes, such as L4, A100-80GB or H100-80GB")
    total: int | Literal["autoscaled"] = key(
        "the GPUs that the pool has, or autoscaled where nodes come and go with the pods that need them", minimum=1
    )
    price_per_hour: float | None = key(
        "what one GPU costs per hour with its share of the node; without it no cost is told", default=None, minimum=0
    )
    provisioning_seconds: int = key(
        "seconds until a new node of an autoscaled pool takes pods", default=300, minimum=0, maximum=7200
    )
    spot_notice_seconds: int | None = key(
        "seconds between the notice and the end of a spot node; left out where nodes are not taken away",
        default=None,
        minimum=1,
    )
    node_selector: Mapping[str, str] = labels("labels of the pool's nodes")
    tolerations: tuple[Toleration, ...] = key(
        "taints of the pool's nodes, besides nvidia.com/gpu, which is always tolerated", default=()
    )
    runtime_class: str | None = key(
        "the RuntimeClass that reaches the GPUs (nvidia), where the nodes' default runtime does not",
        default=None,
        pattern=DNS_LABEL,
        looks="a DNS label",
    )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the GPUs may cost."""

    currency: str = key(
        "the currency of prices and budget, such as USD", default="USD", pattern=r"[A-Z]{3}", looks="three letters"
    )
    budget_per_month: float | None = key(
        "what all models may cost per month at their most replicas; a stack that may cost more is refused",
        default=None,
        minimum=0,
    )
