"""etcd, the API server, the controller manager and the scheduler, as processes of the host."""

import socket
from pathlib import Path

from local.cluster import certificates
from local.cluster.command import Kubectl
from local.cluster.daemon import Daemon
from local.cluster.layout import (
    API_PORT,
    CONTROLLER_MANAGER_PORT,
    ETCD_CLIENT_PORT,
    ETCD_PEER_PORT,
    NODE_ADDRESS,
    POD_CIDR,
    SCHEDULER_PORT,
    SERVICE_CIDR,
    Layout,
)

ETCD_READY_SECONDS = 30.0
API_READY_SECONDS = 120.0  # 4 s on an idle machine; a first start beside a busy compiler takes its time
# The HPA's default of 15 s is right for a fleet; on one small node a person watches it happen.
HPA_SYNC_PERIOD = "5s"
# A Service may be reached from the host at these ports of the node's address (Kubernetes' default range).
NODE_PORTS = "30000-32767"


def daemons(layout: Layout, kubernetes: Path) -> tuple[Daemon, ...]:
    """The four processes, in the order in which they start; all run the combined binary ``kubernetes``."""
    pki = layout.pki
    clients = f"https://127.0.0.1:{ETCD_CLIENT_PORT}"
    peers = f"https://127.0.0.1:{ETCD_PEER_PORT}"

    def daemon(name: str, *arguments: str) -> Daemon:
        return Daemon(name=name, executable=kubernetes, arguments=arguments, home=layout.paths.home, logs=layout.logs)

    def credentials(user: str) -> list[str]:
        file = layout.kubeconfig(user)
        return [f"--kubeconfig={file}", f"--authentication-kubeconfig={file}", f"--authorization-kubeconfig={file}"]

    return (
        daemon(
            "etcd",
            "--name=llm-stack",
            f"--data-dir={layout.etcd}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=llm-stack={peers}",
            # Other users of this host reach loopback too: nobody reads the cluster's secrets without a certificate.
            *(
                f"--{role}{flag}"
                for role in ("", "peer-")
                for flag in (
                    f"cert-file={pki}/etcd.crt",
                    f"key-file={pki}/etcd.key",
                    f"trusted-ca-file={pki}/etcd-ca.crt",
                    "client-cert-auth",
                )
            ),
            "--log-level=warn",
        ),
        daemon(
            "kube-apiserver",
            f"--etcd-servers={clients}",
            f"--etcd-cafile={pki}/etcd-ca.crt",
            f"--etcd-certfile={pki}/etcd.crt",
            f"--etcd-keyfile={pki}/etcd.key",
            f"--bind-address={NODE_ADDRESS}",
            f"--advertise-address={NODE_ADDRESS}",
            f"--secure-port={API_PORT}",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            f"--service-node-port-range={NODE_PORTS}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged",
            f"--client-ca-file={pki}/ca.crt",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
            f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki}/service-accounts.pub",
            f"--service-account-signing-key-file={pki}/service-accounts.key",
            # The aggregation layer, which KEDA's metrics adapter serves through.
            f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
            f"--proxy-client-key-file={pki}/front-proxy-client.key",
            "--enable-aggregator-routing=true",
        ),
        daemon(
            "kube-controller-manager",
            *credentials("kube-controller-manager"),
            "--leader-elect=false",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={pki}/service-accounts.key",
            f"--root-ca-file={pki}/ca.crt",
            f"--cluster-signing-cert-file={pki}/ca.crt",
            f"--cluster-signing-key-file={pki}/ca.key",
            f"--cluster-cidr={POD_CIDR}",
            "--bind-address=127.0.0.1",
            f"--secure-port={CONTROLLER_MANAGER_PORT}",
            f"--horizontal-pod-autoscaler-sync-period={HPA_SYNC_PERIOD}",
        ),
        daemon(
            "kube-scheduler",
            *credentials("kube-scheduler"),
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={SCHEDULER_PORT}",
        ),
    )


def start(layout: Layout, kubernetes: Path, kubectl: Kubectl) -> bool:
    """Starts what does not run and waits for the API server; returns whether anything was started."""
    certificates.create(layout)
    layout.etcd.mkdir(parents=True, exist_ok=True)
    layout.etcd.chmod(0o700)  # etcd warns otherwise
    etcd, api_server, *controllers = daemons(layout, kubernetes)
    started = etcd.start()
    etcd.wait_until(lambda: _listens(ETCD_CLIENT_PORT), ETCD_READY_SECONDS)
    started |= api_server.start()
    api_server.wait_until(lambda: kubectl.succeeds("get", "--raw", "/readyz"), API_READY_SECONDS)
    for controller in controllers:
        started |= controller.start()
    return started


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
