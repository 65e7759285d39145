"""Configuration files of the node's processes, each written in the one format its reader takes."""

import json
from pathlib import Path

from local.cluster.containerd import NAMESPACE
from local.cluster.layout import (
    CGROUP,
    CLUSTER_DOMAIN,
    DNS_ADDRESS,
    KUBELET_HEALTH_PORT,
    KUBELET_PORT,
    NODE_ADDRESS,
    NODE_NAME,
    PAUSE_IMAGE,
    POD_CIDR,
    POD_LINK,
    PROXY_HEALTH_PORT,
    PROXY_METRICS_PORT,
    Layout,
)

MAX_PODS = 100  # far below the 254 addresses of POD_CIDR
# A developer's disk is seldom empty; the kubelet's default of 10-15 % free would evict pods on a healthy 1 TB disk.
EVICTION = {"memory.available": "200Mi", "nodefs.available": "3%", "imagefs.available": "3%", "nodefs.inodesFree": "2%"}


def write(layout: Layout, *, cni_plugins: Path) -> None:
    """Writes every file that is new or another one; kube-proxy watches its own and ends whenever it is written."""
    (layout.cni / "conf").mkdir(parents=True, exist_ok=True)
    texts = {
        layout.cni / "conf" / "10-llm-stack.conflist": _cni(layout),
        layout.state / "containerd.toml": _containerd(layout, cni_plugins),
        layout.state / "buildkitd.toml": _buildkit(layout),
        layout.state / "kubelet.yaml": _kubelet(layout),
        layout.state / "kube-proxy.yaml": _proxy(layout),
    }
    for file, text in texts.items():
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def _cni(layout: Layout) -> str:
    bridge = {
        "type": "bridge",
        "bridge": POD_LINK,
        "isGateway": True,
        "hairpinMode": True,  # a pod that reaches itself through its Service
        "ipam": {
            "type": "host-local",
            "dataDir": str(layout.cni / "addresses"),
            "ranges": [[{"subnet": POD_CIDR}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return json.dumps({"cniVersion": "1.0.0", "name": "llm-stack", "plugins": [bridge]}, indent=1)


def _containerd(layout: Layout, cni_plugins: Path) -> str:
    return f"""\
version = 3
root = "{layout.containerd}"
state = "{layout.paths.run}/containerd"
[grpc]
  address = "{layout.containerd_socket}"
[ttrpc]
  address = "{layout.containerd_socket}.ttrpc"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
  # Without CAP_SYS_RESOURCE (in a container, on some virtual machines) a negative oom_score_adj is refused to root too.
  restrict_oom_score_adj = true
  # Network namespaces are mounted in our own directory: one prefix finds every mount of ours.
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{cni_plugins}"]
    conf_dir = "{layout.cni}/conf"
"""


def _buildkit(layout: Layout) -> str:
    return f"""\
[worker.oci]
  enabled = false
[worker.containerd]
  enabled = true
  address = "{layout.containerd_socket}"
  namespace = "{NAMESPACE}"
  networkMode = "host"
  defaultCgroupParent = "/{CGROUP}/buildkit"
  gc = false # whoever builds makes room first
"""


def _kubelet(layout: Layout) -> str:
    return json.dumps({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "port": KUBELET_PORT,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": KUBELET_HEALTH_PORT,
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,  # many hosts still mount the old hierarchy; the kubelet refuses it by default since 1.35
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,  # kube-proxy in nftables mode needs none of the kubelet's chains
        "podLogsDir": str(layout.state / "pod-logs"),
        "clusterDomain": CLUSTER_DOMAIN,
        "clusterDNS": [DNS_ADDRESS],
        "tlsCertFile": str(layout.pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "kubelet-server.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "maxPods": MAX_PODS,
        # A pod sees a changed Secret, such as Prometheus' configuration, at the kubelet's next look: a minute by default.
        "syncFrequency": "10s",
        "evictionHard": EVICTION,
        # Images are ours to remove: the kubelet's collector would take the add-ons' images, which no registry gives back.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }, indent=1)  # fmt: skip


def _proxy(layout: Layout) -> str:
    unlimited = {
        "maxPerCore": 0,
        "min": 0,
        "tcpEstablishedTimeout": "0s",
        "tcpCloseWaitTimeout": "0s",
    }  # the host's own limits stay
    return json.dumps({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(layout.kubeconfig("kube-proxy"))},
        "mode": "nftables",
        "clusterCIDR": POD_CIDR,
        "hostnameOverride": NODE_NAME,
        "bindAddress": NODE_ADDRESS,
        "healthzBindAddress": f"127.0.0.1:{PROXY_HEALTH_PORT}",
        "metricsBindAddress": f"127.0.0.1:{PROXY_METRICS_PORT}",
        "nodePortAddresses": [f"{NODE_ADDRESS}/32"],
        "conntrack": unlimited,
    }, indent=1)  # fmt: skip
