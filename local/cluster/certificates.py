"""The cluster's certificate authorities, certificates and kubeconfigs, made with openssl into the state directory."""

import json
import os
from base64 import b64encode
from pathlib import Path

from local.cluster.command import output
from local.cluster.layout import (
    API_PORT,
    API_SERVICE_ADDRESS,
    CLUSTER_DOMAIN,
    CONTEXT,
    NODE_ADDRESS,
    NODE_NAME,
    Layout,
)

VALID_DAYS = 3650
CLIENT = "keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n"
SERVER = "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName={names}\n"
# One certificate for etcd and its only client, the API server: both are ours, and nobody else has a key.
ETCD = "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=IP:127.0.0.1\n"
API_SERVER_NAMES = ",".join((
    "DNS:localhost", "DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc",
    f"DNS:kubernetes.default.svc.{CLUSTER_DOMAIN}", "IP:127.0.0.1", f"IP:{API_SERVICE_ADDRESS}", f"IP:{NODE_ADDRESS}",
))  # fmt: skip

# Who talks to the API server, and as whom (Kubernetes' own user and group names).
USERS = {
    "admin": "/O=system:masters/CN=admin",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
    "kubelet": f"/O=system:nodes/CN=system:node:{NODE_NAME}",
}


def create(layout: Layout) -> None:
    """Makes what is missing, whole or not at all: the marker file is written last."""
    done = layout.pki / "complete"
    if done.exists():
        return
    layout.pki.mkdir(parents=True, exist_ok=True)
    layout.pki.chmod(0o700)
    old_mask = os.umask(0o077)
    try:
        _authority(layout.pki, "ca", "llm-stack-local")
        _authority(layout.pki, "front-proxy-ca", "llm-stack-local-front-proxy")
        _authority(layout.pki, "etcd-ca", "llm-stack-local-etcd")
        _leaf(layout.pki, "etcd", "etcd-ca", "/CN=etcd", ETCD)
        _leaf(layout.pki, "apiserver", "ca", "/CN=kube-apiserver", SERVER.format(names=API_SERVER_NAMES))
        _leaf(
            layout.pki,
            "kubelet-server",
            "ca",
            f"/CN={NODE_NAME}",
            SERVER.format(names=f"DNS:{NODE_NAME},IP:{NODE_ADDRESS}"),
        )
        _leaf(
            layout.pki, "apiserver-kubelet-client", "ca", "/O=system:masters/CN=kube-apiserver-kubelet-client", CLIENT
        )
        _leaf(layout.pki, "front-proxy-client", "front-proxy-ca", "/CN=front-proxy-client", CLIENT)
        for user, subject in USERS.items():
            _leaf(layout.pki, user, "ca", subject, CLIENT)
            _kubeconfig(layout, user)
        _key(layout.pki / "service-accounts.key")
        output(
            [
                "openssl",
                "pkey",
                "-in",
                layout.pki / "service-accounts.key",
                "-pubout",
                "-out",
                layout.pki / "service-accounts.pub",
            ]
        )
        done.touch()
    finally:
        os.umask(old_mask)


def _key(path: Path) -> None:
    output(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", path])


def _authority(pki: Path, name: str, common_name: str) -> None:
    _key(pki / f"{name}.key")
    output([
        "openssl", "req", "-x509", "-key", pki / f"{name}.key", "-subj", f"/CN={common_name}", "-days", str(VALID_DAYS),
        "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature", "-out", pki / f"{name}.crt",
    ])  # fmt: skip


def _leaf(pki: Path, name: str, authority: str, subject: str, extensions: str) -> None:
    _key(pki / f"{name}.key")
    request = output(["openssl", "req", "-new", "-key", pki / f"{name}.key", "-subj", subject])
    (pki / "extensions").write_text(extensions)
    output(
        [
            "openssl", "x509", "-req", "-CA", pki / f"{authority}.crt", "-CAkey", pki / f"{authority}.key", "-CAcreateserial",
            "-days", str(VALID_DAYS), "-extfile", pki / "extensions", "-out", pki / f"{name}.crt",
        ],
        stdin=request,
    )  # fmt: skip


def _kubeconfig(layout: Layout, user: str) -> None:
    """A kubeconfig is YAML, and JSON is YAML: no library needed."""

    def embedded(file: str) -> str:
        return b64encode((layout.pki / file).read_bytes()).decode()

    layout.kubeconfig(user).write_text(json.dumps({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [{
            "name": CONTEXT,
            "cluster": {"server": f"https://{NODE_ADDRESS}:{API_PORT}", "certificate-authority-data": embedded("ca.crt")},
        }],
        "users": [{
            "name": user,
            "user": {"client-certificate-data": embedded(f"{user}.crt"), "client-key-data": embedded(f"{user}.key")},
        }],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": user}}],
    }, indent=1))  # fmt: skip
