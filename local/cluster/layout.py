"""Fixed names and addresses of the embedded cluster: one place for what several processes must agree on."""

from dataclasses import dataclass
from pathlib import Path

from local.paths import Paths

NODE_NAME = "llm-stack"
CONTEXT = "llm-stack-local"

# The node's own address sits on a bridge without ports: it exists on every host, belongs to no real network, and is no
# loopback address (which the API server refuses as an endpoint of the `kubernetes` Service).
NODE_LINK = "llm0"
NODE_ADDRESS = "10.222.0.1"
POD_LINK = "llm-pods"
POD_CIDR = "10.244.0.0/24"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"  # the first address of SERVICE_CIDR: Kubernetes' rule
DNS_ADDRESS = "10.96.0.10"
CLUSTER_DOMAIN = "cluster.local"

POLICY_TABLE = "llm-stack-policy"  # of nftables; the enforcer of NetworkPolicy keeps it

API_PORT = 6443
ETCD_CLIENT_PORT = 2379
ETCD_PEER_PORT = 2380
KUBELET_PORT = 10250
KUBELET_HEALTH_PORT = 10248
CONTROLLER_MANAGER_PORT = 10257
SCHEDULER_PORT = 10259
PROXY_HEALTH_PORT = 10256
PROXY_METRICS_PORT = 10249

# The root of every control group of ours, so that nobody else's pods are ever taken for ours.
CGROUP = "llm-stack"

PAUSE_IMAGE = "localhost/llm-stack/pause:1"


@dataclass(frozen=True)
class Layout:
    """Where the files of the cluster lie.

    Everything under ``state`` dies with ``down``; ``containerd`` and ``buildkit`` (images and build cache) outlive it.
    """

    paths: Paths

    @property
    def state(self) -> Path:
        return self.paths.cluster

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def etcd(self) -> Path:
        return self.state / "etcd"

    @property
    def kubelet(self) -> Path:
        return self.state / "kubelet"

    @property
    def cni(self) -> Path:
        return self.state / "cni"

    @property
    def containerd(self) -> Path:
        return self.paths.images / "containerd"

    @property
    def buildkit(self) -> Path:
        return self.paths.images / "buildkit"

    @property
    def archives(self) -> Path:
        return self.paths.images / "archives"

    @property
    def containerd_socket(self) -> Path:
        return self.paths.run / "containerd.sock"

    @property
    def buildkit_socket(self) -> Path:
        return self.paths.run / "buildkitd.sock"

    def kubeconfig(self, user: str = "admin") -> Path:
        return self.state / f"{user}.kubeconfig"
