"""What a container asks of its node."""

from collections.abc import Iterator

from .manifest import UNKNOWN, Resource
from .pods import Container, pod_of

# Memory cannot be taken back from a process, so it needs an end. The processor can: without a limit a server may use what idles.
REQUESTED = ("cpu", "memory")
LIMITED = ("memory",)
# Domain of an extended resource: `nvidia.com/gpu`, `nvidia.com/mig-1g.10gb`. Kubernetes' own have none, or its own domain.
OWN_DOMAIN = "kubernetes.io/"


def limited(resource: Resource) -> Iterator[str]:
    """Containers request processor and memory, are limited in memory, and hold the devices that they ask for."""
    pod = pod_of(resource)
    for container in pod.containers if pod else ():
        for kind, names in (("requests", REQUESTED), ("limits", LIMITED)):
            for name in names:
                if container.says("resources", kind, name) is None:
                    yield f"container {container.name}: resources.{kind}.{name} is not set. Say how much it needs."
        yield from _devices(container)


def _devices(container: Container) -> Iterator[str]:
    requests, limits = container.quantities("requests"), container.quantities("limits")
    for name in sorted({*requests, *limits}):
        if not is_device(name):
            continue
        # Kubernetes takes a limit alone for the request as well.
        limit, request = limits.get(name), requests.get(name, limits.get(name))
        if UNKNOWN not in (limit, request) and _count(limit) != _count(request):
            yield (
                f"container {container.name}: requests {_count(request) or 'no'} {name} and is limited to "
                f"{_count(limit) or 'none'}. Devices are not shared out: give both the same number."
            )


def is_device(name: str) -> bool:
    """Whether an entry of `resources` counts devices."""
    return "/" in name and OWN_DOMAIN not in name


def _count(quantity: object) -> str:
    return "" if quantity is None else f"{quantity:g}" if isinstance(quantity, float) else str(quantity)
