"""How many GPUs a stack may come to hold."""

from collections.abc import Iterable, Iterator, Sequence

from .autoscalers import Autoscaler, autoscaler_of
from .manifest import Resource, Violation, number
from .pods import Container, Pod, pod_of

# Domains under which device plugins offer GPUs and their like.
VENDORS = ("nvidia.com", "amd.com", "gpu.intel.com", "habana.ai")


def bounded(resources: Iterable[Resource], *, maximum: float, vendors: Sequence[str] = VENDORS) -> Iterator[Violation]:
    """The stack's workloads, each at its most replicas, hold no more GPUs together than are allowed.

    A slice of a GPU (MIG) and a share of one count as one device each. Not counted are pods of Helm releases, and of a
    DaemonSet all but one: how many nodes there are is the cluster's to say.
    """
    known = tuple(resources)
    scalers = [scaler for scaler in map(autoscaler_of, known) if scaler]
    held = [(most_replicas(pod.owner, scalers) * devices(pod, vendors), pod.owner) for pod in map(pod_of, known) if pod]
    total = sum(count for count, _ in held)
    if total > maximum:
        parts = ", ".join(f"{owner.label} {count}" for count, owner in held if count)
        _, largest = max(held, key=lambda holding: holding[0])
        yield Violation(
            urn=largest.urn,
            message=f"the stack may come to hold {total} GPUs ({parts}), and {maximum:g} are allowed. Lower the most replicas "
            "or the GPUs of each, or raise `maximum` in the pack's configuration.",
        )


def most_replicas(owner: Resource, scalers: Iterable[Autoscaler]) -> int:
    """Pods of a workload at most: its autoscaler's word, else its own, else one."""
    found = [scaler.max_replicas for scaler in scalers if scaler.scales(owner)]
    if found:
        return max(found)
    own = "parallelism" if owner.kind == "Job" else "replicas"
    replicas = number(owner.inputs, "spec", own)
    return 1 if replicas is None else replicas


def devices(pod: Pod, vendors: Sequence[str]) -> int:
    """GPUs of one pod: its containers run together, its init containers one after the other before them."""
    first = max((_asked(container, vendors) for container in pod.containers if container.init), default=0)
    return max(first, sum(_asked(container, vendors) for container in pod.containers if not container.init))


def _asked(container: Container, vendors: Sequence[str]) -> int:
    """GPUs are limited to what is requested, and a limit alone is taken for the request."""
    limits = container.quantities("limits")
    return sum(number(limits, name) or 0 for name in limits if name.partition("/")[0] in vendors)
