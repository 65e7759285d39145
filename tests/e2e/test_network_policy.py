"""NetworkPolicy on the local cluster: under each kind of rule one connection that works and one that does not."""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from local.cluster.base_image import BASE_IMAGE
from local.cluster.command import Kubectl
from local.cluster.layout import API_PORT, NODE_ADDRESS, POD_CIDR

pytestmark = pytest.mark.e2e

HOME, AWAY = "t-policy", "t-policy-away"
NAMESPACE_LABEL = "kubernetes.io/metadata.name"  # Kubernetes gives it to every namespace
WEB, NEXT, THIRD, UDP = 8080, 8081, 8082, 9053
SETTLE_SECONDS = 15.0  # until a policy must have taken effect; 0.2 s seen
ANSWER_SECONDS = 1  # in the cluster an answer takes a millisecond
Spec = dict[str, Any]

# Greets and then says back what it hears, on three ports; on the fourth, of UDP, it only says back.
SERVER = f"""
use IO::Socket::INET; $SIG{{CHLD}} = 'IGNORE'; $SIG{{TERM}} = sub {{ kill 'KILL', -$$; }}; setpgrp;
for my $port ({WEB}, {NEXT}, {THIRD}) {{ next if fork;
  my $all = IO::Socket::INET->new(LocalPort => $port, Listen => 9, ReuseAddr => 1) or die $!;
  while (my $one = $all->accept) {{ next if fork;
    $one->autoflush; print $one "hello\\n"; print $one $_ while <$one>; exit; }} }}
my $all = IO::Socket::INET->new(LocalPort => {UDP}, Proto => 'udp') or die $!;
while ($all->recv(my $said, 99)) {{ $all->send($said); }}
"""


@dataclass(frozen=True)
class Pod:
    """A pod that serves and can call others."""

    name: str
    namespace: str
    labels: dict[str, str] = field(hash=False)

    def manifest(self, **container: Any) -> dict[str, Any]:
        ports = [{"name": "web", "containerPort": WEB}]
        made = {
            "name": "c",
            "image": BASE_IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["perl", "-e", SERVER],
            "ports": ports,
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            **container,
        }
        spec = {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [made]}
        metadata = {"name": self.name, "namespace": self.namespace, "labels": self.labels}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "restartPolicy": "Never"}}


SERVER_POD = Pod("server", HOME, {"app": "server"})
FRIEND = Pod("friend", HOME, {"app": "friend"})
STRANGER = Pod("stranger", HOME, {"app": "stranger"})
AWAY_FRIEND = Pod("friend", AWAY, {"app": "friend"})
AWAY_STRANGER = Pod("stranger", AWAY, {"app": "stranger"})
PODS = (SERVER_POD, FRIEND, STRANGER, AWAY_FRIEND, AWAY_STRANGER)


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "server", "namespace": HOME},
    "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": "web"}]},
}


class Cluster:
    """Two namespaces with pods, the policies of one test in the first, and what connects to what."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl
        probe = {"tcpSocket": {"port": WEB}, "periodSeconds": 1}
        items = [namespace(HOME), namespace(AWAY), SERVICE, *(pod.manifest(readinessProbe=probe) for pod in PODS)]
        self.apply(*items)
        for where in (HOME, AWAY):
            kubectl("wait", "--for=condition=Ready", "pod", "--all", "-n", where, "--timeout=60s")
        self.addresses = {pod: kubectl.jsonpath(f"pod/{pod.name}", "{.status.podIP}", pod.namespace) for pod in PODS}

    def apply(self, *items: dict[str, Any]) -> None:
        self.kubectl.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def policy(self, spec: Spec, name: str = "one") -> None:
        metadata = {"name": name, "namespace": HOME}
        self.apply({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})

    def address(self, target: "Pod | str") -> str:
        return target if isinstance(target, str) else self.addresses[target]

    def connects(self, caller: Pod, target: "Pod | str", port: int = WEB) -> bool:
        """Whether the other side answers."""
        protocol = "udp" if port == UDP else "tcp"
        # The API server is the only one that waits to be spoken to, and then is not understood: to connect is enough.
        listen = "" if port == API_PORT else "read -r -N 1 -t 1 <&3"
        script = f"exec 3<>/dev/{protocol}/{self.address(target)}/{port} && echo hello >&3; {listen}"
        command = ("timeout", str(ANSWER_SECONDS), "bash", "-c", script)
        return self.kubectl.succeeds("exec", caller.name, "-n", caller.namespace, "--", *command)

    def expect(self, *, works: list[tuple[Any, ...]], fails: list[tuple[Any, ...]]) -> None:
        """Waits until every connection (caller, target and, if not the first, port) is as it should be."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            wrong = [f"{one} does not work" for one in works if not self.connects(*one)]
            wrong += [f"{one} works" for one in fails if self.connects(*one)]
            if not wrong:
                return
            assert time.monotonic() < deadline, wrong


@pytest.fixture(scope="module")
def made(kubectl: Kubectl) -> Iterator[Cluster]:
    try:
        yield Cluster(kubectl)
    finally:
        kubectl("delete", "namespace", HOME, AWAY, "--ignore-not-found")


@pytest.fixture
def cluster(made: Cluster) -> Iterator[Cluster]:
    yield made
    made.kubectl("delete", "networkpolicy", "--all", "-n", HOME)


def ingress(*rules: Spec, pods: Spec | None = None) -> Spec:
    """What may reach the server."""
    selected = {"matchLabels": SERVER_POD.labels} if pods is None else pods
    return {"podSelector": selected, "policyTypes": ["Ingress"], "ingress": list(rules)}


def egress(*rules: Spec) -> Spec:
    """What the friend may reach."""
    return {"podSelector": {"matchLabels": FRIEND.labels}, "policyTypes": ["Egress"], "egress": list(rules)}


def of_pods(pod: Pod) -> Spec:
    return {"podSelector": {"matchLabels": pod.labels}}


def of_namespace(name: str) -> Spec:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: name}}}


def test_default_deny_isolates_every_pod_of_the_namespace_and_no_other(cluster: Cluster) -> None:
    cluster.policy(ingress(pods={}))
    cluster.expect(
        works=[(FRIEND, AWAY_FRIEND), (AWAY_STRANGER, AWAY_FRIEND)],
        fails=[(FRIEND, SERVER_POD), (AWAY_FRIEND, SERVER_POD), (SERVER_POD, FRIEND)],
    )
    cluster.kubectl("delete", "networkpolicy/one", "-n", HOME)
    cluster.expect(works=[(FRIEND, SERVER_POD), (AWAY_FRIEND, SERVER_POD), (SERVER_POD, FRIEND)], fails=[])


@pytest.mark.parametrize(
    ("peers", "let_in", "kept_out"),
    [
        ([of_pods(FRIEND)], [FRIEND], [STRANGER, AWAY_FRIEND]),
        ([{"podSelector": {}}], [FRIEND, STRANGER], [AWAY_FRIEND]),
        ([of_namespace(AWAY)], [AWAY_FRIEND, AWAY_STRANGER], [FRIEND]),
        ([{"namespaceSelector": {}}], [FRIEND, AWAY_FRIEND], []),
        ([{**of_namespace(AWAY), **of_pods(FRIEND)}], [AWAY_FRIEND], [AWAY_STRANGER, FRIEND]),
        ([of_namespace(AWAY), of_pods(FRIEND)], [AWAY_STRANGER, FRIEND], [STRANGER]),
        (
            [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["stranger"]}]}}],
            [FRIEND],
            [STRANGER],
        ),
    ],
)
def test_ingress_by_selector(cluster: Cluster, peers: list[Spec], let_in: list[Pod], kept_out: list[Pod]) -> None:
    cluster.policy(ingress({"from": peers}))
    cluster.expect(works=[(pod, SERVER_POD) for pod in let_in], fails=[(pod, SERVER_POD) for pod in kept_out])


def test_ingress_by_address(cluster: Cluster) -> None:
    block = {"cidr": POD_CIDR, "except": [f"{cluster.address(FRIEND)}/32"]}
    cluster.policy(ingress({"from": [{"ipBlock": block}]}))
    cluster.expect(works=[(STRANGER, SERVER_POD), (AWAY_FRIEND, SERVER_POD)], fails=[(FRIEND, SERVER_POD)])


def test_addresses_of_ipv6_let_nobody_of_ipv4_in(cluster: Cluster) -> None:
    every_v6: Spec = {"ipBlock": {"cidr": "::/0", "except": ["fd00::/8"]}}
    cluster.policy(ingress({"from": [every_v6]}))
    cluster.expect(works=[], fails=[(FRIEND, SERVER_POD)])
    cluster.policy(ingress({"from": [every_v6, {"ipBlock": {"cidr": "0.0.0.0/0"}}]}))
    cluster.expect(works=[(FRIEND, SERVER_POD)], fails=[])


@pytest.mark.parametrize(
    ("ports", "opened", "closed"),
    [
        ([{"port": WEB}], [WEB], [NEXT, UDP]),
        ([{"port": "web"}], [WEB], [NEXT]),
        ([{"port": WEB, "endPort": NEXT}], [WEB, NEXT], [THIRD]),
        ([{"port": WEB}, {"port": THIRD}], [WEB, THIRD], [NEXT]),
        ([{"protocol": "UDP", "port": UDP}], [UDP], [WEB]),
        ([{"protocol": "TCP"}], [WEB, THIRD], [UDP]),
    ],
)
def test_ingress_by_port(cluster: Cluster, ports: list[Spec], opened: list[int], closed: list[int]) -> None:
    cluster.policy(ingress({"from": [of_pods(FRIEND)], "ports": ports}))
    cluster.expect(
        works=[(FRIEND, SERVER_POD, port) for port in opened],
        fails=[*((FRIEND, SERVER_POD, port) for port in closed), (STRANGER, SERVER_POD, opened[0])],
    )


def test_default_deny_of_egress(cluster: Cluster) -> None:
    cluster.policy(egress())
    cluster.expect(
        works=[(STRANGER, SERVER_POD), (STRANGER, FRIEND), (FRIEND, FRIEND)],
        fails=[(FRIEND, SERVER_POD), (FRIEND, AWAY_FRIEND), (FRIEND, NODE_ADDRESS, API_PORT)],
    )


@pytest.mark.parametrize(
    ("peers", "reached", "missed"),
    [
        ([of_pods(SERVER_POD)], [SERVER_POD], [STRANGER, AWAY_FRIEND]),
        ([of_namespace(AWAY)], [AWAY_FRIEND], [SERVER_POD]),
        ([{**of_namespace(AWAY), **of_pods(FRIEND)}], [AWAY_FRIEND], [AWAY_STRANGER, SERVER_POD]),
    ],
)
def test_egress_by_selector(cluster: Cluster, peers: list[Spec], reached: list[Pod], missed: list[Pod]) -> None:
    cluster.policy(egress({"to": peers}))
    cluster.expect(works=[(FRIEND, pod) for pod in reached], fails=[(FRIEND, pod) for pod in missed])


def test_egress_by_address(cluster: Cluster) -> None:
    everything_but = {"cidr": "0.0.0.0/0", "except": [f"{cluster.address(SERVER_POD)}/32"]}
    cluster.policy(egress({"to": [{"ipBlock": everything_but}]}))
    cluster.expect(
        works=[(FRIEND, STRANGER), (FRIEND, NODE_ADDRESS, API_PORT), (STRANGER, SERVER_POD)],
        fails=[(FRIEND, SERVER_POD)],
    )


def test_egress_by_port(cluster: Cluster) -> None:
    cluster.policy(egress({"to": [of_pods(SERVER_POD)], "ports": [{"port": "web"}]}, {"ports": [{"port": THIRD}]}))
    cluster.expect(
        works=[(FRIEND, SERVER_POD, WEB), (FRIEND, STRANGER, THIRD)],
        fails=[(FRIEND, SERVER_POD, NEXT), (FRIEND, STRANGER, WEB)],
    )


def test_egress_sees_the_pod_behind_a_service(cluster: Cluster) -> None:
    dns = {"to": [{**of_namespace("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]}
    name = f"server.{HOME}.svc.cluster.local"
    to_server = {"to": [of_pods(SERVER_POD)], "ports": [{"port": WEB}]}
    cluster.policy(egress(to_server))
    cluster.expect(works=[(STRANGER, name, 80)], fails=[(FRIEND, name, 80)])  # nobody tells the address
    cluster.policy(egress(to_server, {**dns, "ports": [{"protocol": "UDP", "port": 53}]}))
    cluster.expect(works=[(FRIEND, name, 80)], fails=[(FRIEND, SERVER_POD, NEXT)])
    cluster.policy(egress(dns))
    cluster.expect(works=[(STRANGER, name, 80)], fails=[(FRIEND, name, 80)])  # the address is told, and not reached


def test_policies_of_one_pod_add_up(cluster: Cluster) -> None:
    cluster.policy(ingress({"from": [of_pods(FRIEND)], "ports": [{"port": WEB}]}))
    cluster.policy(ingress({"from": [of_namespace(AWAY)], "ports": [{"port": NEXT}]}), "two")
    cluster.expect(
        works=[(FRIEND, SERVER_POD, WEB), (AWAY_FRIEND, SERVER_POD, NEXT)],
        fails=[(FRIEND, SERVER_POD, NEXT), (AWAY_FRIEND, SERVER_POD, WEB), (STRANGER, SERVER_POD)],
    )
    cluster.kubectl("delete", "networkpolicy/two", "-n", HOME)
    cluster.expect(works=[(FRIEND, SERVER_POD)], fails=[(AWAY_FRIEND, SERVER_POD, NEXT)])


def test_both_ends_have_to_agree(cluster: Cluster) -> None:
    cluster.policy(egress({"to": [of_pods(SERVER_POD)]}))
    cluster.policy(ingress({"from": [of_pods(STRANGER)]}), "two")
    cluster.expect(works=[(STRANGER, SERVER_POD)], fails=[(FRIEND, SERVER_POD)])


def test_labels_and_namespaces_count_as_they_are_now(cluster: Cluster) -> None:
    cluster.policy(ingress({"from": [{"podSelector": {"matchLabels": {"invited": "yes"}}}]}))
    cluster.expect(works=[], fails=[(STRANGER, SERVER_POD)])
    cluster.kubectl("label", "pod/stranger", "-n", HOME, "invited=yes")
    cluster.expect(works=[(STRANGER, SERVER_POD)], fails=[(FRIEND, SERVER_POD)])
    cluster.kubectl("label", "pod/stranger", "-n", HOME, "invited-")
    cluster.expect(works=[], fails=[(STRANGER, SERVER_POD)])


def test_established_connection_stays(cluster: Cluster) -> None:
    script = f"exec 3<>/dev/tcp/{cluster.address(SERVER_POD)}/{WEB}; cat <&3 & cat >&3"
    command = cluster.kubectl.command("exec", "-i", FRIEND.name, "-n", HOME, "--", "bash", "-c", script)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as talk:
        assert talk.stdin is not None
        assert talk.stdout is not None
        assert talk.stdout.readline() == "hello\n"
        cluster.policy(ingress())
        cluster.expect(works=[], fails=[(FRIEND, SERVER_POD)])
        talk.stdin.write("still there\n")
        assert talk.stdout.readline() == "still there\n"
        talk.kill()


def test_probes_pass_whatever_the_policies_say(cluster: Cluster) -> None:
    cluster.policy({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    cluster.expect(works=[], fails=[(FRIEND, SERVER_POD)])
    late = Pod("late", HOME, {"app": "late"})
    probe = {"tcpSocket": {"port": WEB}, "periodSeconds": 1}
    cluster.apply(late.manifest(readinessProbe=probe, livenessProbe=probe))
    try:
        cluster.kubectl("wait", "--for=condition=Ready", "pod/late", "-n", HOME, "--timeout=30s")
    finally:
        cluster.kubectl("delete", "pod/late", "-n", HOME)


def test_new_pod_is_isolated_from_its_first_packet_on(cluster: Cluster) -> None:
    cluster.policy({"podSelector": {"matchLabels": {"app": "new"}}, "policyTypes": ["Egress"]})
    cluster.expect(works=[(FRIEND, SERVER_POD)], fails=[])
    call = f"timeout 0.2 bash -c 'exec 3<>/dev/tcp/{cluster.address(SERVER_POD)}/{WEB}' && echo reached"
    new = Pod("new", HOME, {"app": "new"})
    cluster.apply(new.manifest(command=["bash", "-c", f"for i in $(seq 20); do {call}; done; echo tried"]))
    try:
        cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/new", "-n", HOME, "--timeout=30s")
        assert cluster.kubectl("logs", "new", "-n", HOME).split() == ["tried"]
    finally:
        cluster.kubectl("delete", "pod/new", "-n", HOME)
