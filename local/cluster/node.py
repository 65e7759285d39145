"""The node: containerd, the kubelet, kube-proxy, BuildKit and the enforcer of NetworkPolicy, as processes of the host."""

from collections.abc import Callable
from pathlib import Path

from local.cluster import cgroups, node_files
from local.cluster.command import Kubectl, succeeds
from local.cluster.containerd import Containerd
from local.cluster.daemon import Daemon
from local.cluster.layout import NODE_ADDRESS, NODE_NAME, POD_CIDR, POLICY_TABLE, Layout
from local.toolchain import Tools
from local.toolchain.debian import SYSTEM_PATH

RUNTIME_READY_SECONDS = 60.0
KUBELET_READY_SECONDS = 90.0
GPU_READY_SECONDS = 60.0
POLICY_READY_SECONDS = 30.0


def daemons(layout: Layout, tools: Tools) -> tuple[Daemon, ...]:
    """containerd, BuildKit, the kubelet, kube-proxy and the enforcer of NetworkPolicy, in the order in which they start."""

    def daemon(name: str, executable: Path, *arguments: str, environment: dict[str, str] | None = None) -> Daemon:
        return Daemon(
            name=name, executable=executable, arguments=arguments, home=layout.paths.home, logs=layout.logs,
            environment=environment or {},
        )  # fmt: skip

    return (
        # containerd starts its shim by name: the folder of its own binaries comes first.
        daemon(
            "containerd",
            tools.containerd,
            f"--config={layout.state}/containerd.toml",
            environment={"PATH": f"{tools.containerd.parent}:{SYSTEM_PATH}"},
        ),
        daemon(
            "buildkitd",
            tools.buildkitd,
            f"--config={layout.state}/buildkitd.toml",
            f"--root={layout.buildkit}",
            f"--addr=unix://{layout.buildkit_socket}",
        ),
        daemon(
            "kubelet",
            tools.kubernetes,
            f"--config={layout.state}/kubelet.yaml",
            f"--kubeconfig={layout.kubeconfig('kubelet')}",
            f"--root-dir={layout.kubelet}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={NODE_ADDRESS}",
        ),
        daemon("kube-proxy", tools.kubernetes, f"--config={layout.state}/kube-proxy.yaml"),
        # Real clusters have their network plugin do this; here it is for the tests of policies.
        daemon(
            "netpolicy",
            tools.network_policies,
            f"--kubeconfig={layout.kubeconfig()}",
            f"--table={POLICY_TABLE}",
            f"--pod-cidr={POD_CIDR}",
            environment={"PATH": SYSTEM_PATH},
        ),
    )


def start(layout: Layout, tools: Tools, kubectl: Kubectl, import_images: Callable[[Containerd], object]) -> bool:
    """Starts what does not run and waits until the node is Ready; returns whether anything was started.

    ``import_images`` is called once containerd answers and before the kubelet needs its pause image.
    """
    cgroups.create()
    node_files.write(layout, cni_plugins=tools.cni_plugins)
    containerd, buildkitd, kubelet, proxy, policies = daemons(layout, tools)
    started = containerd.start()
    ctr = Containerd(tools.ctr, layout.containerd_socket)
    containerd.wait_until(ctr.answers, RUNTIME_READY_SECONDS)
    if kubelet.process() is None and not layout.kubelet.exists():
        ctr.remove_containers()  # of a cluster that is no more
    import_images(ctr)
    started |= buildkitd.start()
    buildkitd.wait_until(layout.buildkit_socket.exists, RUNTIME_READY_SECONDS)
    started |= kubelet.start()
    started |= proxy.start()
    started |= policies.start()
    policies.wait_until(lambda: succeeds(["nft", "list", "table", "ip", POLICY_TABLE]), POLICY_READY_SECONDS)
    kubelet.wait_until(lambda: node_ready(kubectl), KUBELET_READY_SECONDS)
    return started


def node_ready(kubectl: Kubectl) -> bool:
    path = '{.status.conditions[?(@.type=="Ready")].status}'
    return kubectl.jsonpath(f"node/{NODE_NAME}", path) == "True"


def offer_gpus(layout: Layout, tools: Tools, kubectl: Kubectl, count: int) -> None:
    """Makes the node offer ``count`` GPUs that do not exist; 0 takes them away."""
    plugin = Daemon(
        name="fakegpu",
        executable=tools.fake_gpus,
        arguments=(f"-count={count}",),
        home=layout.paths.home,
        logs=layout.logs,
    )
    if count == 0:
        plugin.stop()
        return
    plugin.start()
    path = r"{.status.allocatable.nvidia\.com/gpu}"
    plugin.wait_until(lambda: kubectl.jsonpath(f"node/{NODE_NAME}", path) == str(count), GPU_READY_SECONDS)
