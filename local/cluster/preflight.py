"""What can be seen to be wrong with the host before anything of it is touched."""

import shutil
import socket
from collections.abc import Iterator

from local.cluster.daemon import marked_processes
from local.cluster.layout import (
    API_PORT,
    CONTROLLER_MANAGER_PORT,
    ETCD_CLIENT_PORT,
    ETCD_PEER_PORT,
    KUBELET_HEALTH_PORT,
    PROXY_HEALTH_PORT,
    PROXY_METRICS_PORT,
    SCHEDULER_PORT,
    Layout,
)
from local.screen import LocalError

LOOPBACK_PORTS = (
    ETCD_CLIENT_PORT, ETCD_PEER_PORT, CONTROLLER_MANAGER_PORT, SCHEDULER_PORT,
    KUBELET_HEALTH_PORT, PROXY_HEALTH_PORT, PROXY_METRICS_PORT,
)  # fmt: skip
GIGABYTE = 10**9
# What a first start writes: tools and their build 12, base and service image with its cache 18 (torch's CUDA wheel).
FIRST_START_BYTES = 30 * GIGABYTE
LATER_START_BYTES = 3 * GIGABYTE  # etcd, logs, a new layer of the service


def check(layout: Layout) -> None:
    """Raises one :class:`LocalError` that names everything that stands in the way."""
    problems = [*_disk(layout), *_ports(layout)]
    if problems:
        raise LocalError("\n".join(text for text, _ in problems), "\n     ".join(remedy for _, remedy in problems))


def _disk(layout: Layout) -> Iterator[tuple[str, str]]:
    needed = LATER_START_BYTES if layout.containerd.exists() else FIRST_START_BYTES
    free = shutil.disk_usage(layout.paths.home).free
    if free < needed:
        yield (
            f"{layout.paths.home} has {free / GIGABYTE:.1f} GB free, and {needed / GIGABYTE:.0f} GB are needed.",
            "Free some space, or name a directory on a larger disk in LLM_STACK_HOME.",
        )


def _ports(layout: Layout) -> Iterator[tuple[str, str]]:
    running = {process.name for process in marked_processes(layout.paths.home)}
    if running:  # the ports are taken by ourselves
        return
    taken = [port for port in LOOPBACK_PORTS if _taken("127.0.0.1", port)]
    if _taken("0.0.0.0", API_PORT):  # the node's address may not be there yet
        taken.append(API_PORT)
    if taken:
        yield (
            f"Of the ports that the cluster needs, somebody listens on {', '.join(map(str, taken))}.",
            "`ss -ltnp` shows who; end that, then run the command again.",
        )


def _taken(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return True
    return False
