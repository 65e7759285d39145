"""Contradictions of how a model is reached and by whom."""

import ipaddress
from collections.abc import Iterator, Mapping

from infra.config.parsing import Check, Contradiction, Encrypted
from infra.config.schema import (
    EndpointKind,
    GivenKeys,
    IngressExposure,
    LoadBalancerEndpoint,
    Model,
    Network,
    NodePortEndpoint,
    NoKeys,
    StackConfig,
    VllmRuntime,
)
from infra.runtime import keys_of


def public_without_key(model: Model) -> Iterator[Contradiction]:
    """A model that the whole world reaches, or might reach at its nodes, and whoever reaches may use."""
    if not isinstance(model.api_keys, NoKeys):
        return
    balancer = isinstance(model.endpoint, LoadBalancerEndpoint) and not model.endpoint.internal
    if balancer or model.exposure is not None:
        door = "exposure" if model.exposure is not None else "endpoint"
        yield Contradiction(
            "api_keys.source",
            "none",
            f"leaves the model open to everyone: its {door} is public",
            "Use generated or given.",
        )
    elif _open_nodes(model.endpoint) and model.network.client_cidrs is None:
        yield Contradiction(
            "api_keys.source",
            "none",
            "leaves the model open to everyone who reaches a node: endpoint.host is no private address",
            "Use generated or given, name the clients (network.client_cidrs), or give the private address of a node that "
            "only your own network reaches.",
        )


def unenforced_clients(model: Model) -> Iterator[Contradiction]:
    """Clients that are named, and nothing that keeps the others out."""
    network, balancer = model.network, isinstance(model.endpoint, LoadBalancerEndpoint)
    if network.policy:
        return
    if network.client_cidrs is not None and not (balancer and network.client_cidrs):
        yield Contradiction(
            "network.client_cidrs",
            list(network.client_cidrs),
            "keeps nobody out: network.policy = false, and only a LoadBalancer asks for addresses by itself",
            "Set network.policy to true, or leave client_cidrs out.",
        )
    if network.client_namespaces:
        yield Contradiction(
            "network.client_namespaces",
            list(network.client_namespaces),
            "keeps nobody out: network.policy = false",
            "Set network.policy to true, or leave client_namespaces out.",
        )


def no_key(given: GivenKeys) -> Iterator[Contradiction]:
    """Given keys among which there is none."""
    if not isinstance(given.keys, Encrypted) and not keys_of(given.keys):
        problem = "has no key: empty lines and comments are none"
        yield Contradiction("keys", given.keys, problem, "Give one key per line, or use source generated.")


def one_key(model: Model) -> Iterator[Contradiction]:
    """Several keys for vLLM, which takes one: clients with the others would be refused."""
    given = model.api_keys
    if not isinstance(model.runtime, VllmRuntime) or not isinstance(given, GivenKeys):
        return
    if not isinstance(given.keys, Encrypted) and len(keys_of(given.keys)) > 1:
        problem = "are several, and runtime vllm takes the first alone"
        yield Contradiction(
            "api_keys.keys", given.keys, problem, "Give one, or put a proxy with keys of its own before it."
        )


def public_without_tls(model: Model) -> Iterator[Contradiction]:
    """A public load balancer to which keys and prompts travel in clear."""
    endpoint = model.endpoint
    if isinstance(endpoint, LoadBalancerEndpoint) and not endpoint.internal and not endpoint.tls:
        yield Contradiction(
            "endpoint.tls",
            endpoint.tls,
            "lets keys and prompts travel in clear: the load balancer is public",
            "Let it end TLS (tls: true, with the annotations of your cloud), use an exposure with TLS, or internal: true.",
        )


def internal_balancer(model: Model) -> Iterator[Contradiction]:
    """A load balancer that is called internal, and no annotation that tells the cloud so."""
    endpoint = model.endpoint
    if isinstance(endpoint, LoadBalancerEndpoint) and endpoint.internal and not endpoint.annotations:
        yield Contradiction(
            "endpoint.internal",
            endpoint.internal,
            "makes nothing internal by itself: clouds go by the Service's annotations",
            "Give endpoint.annotations of your cloud, such as networking.gke.io/load-balancer-type: Internal.",
        )


def two_doors(model: Model) -> Iterator[Contradiction]:
    """An exposure, and a load balancer beside it that goes around it."""
    if model.exposure is not None and isinstance(model.endpoint, LoadBalancerEndpoint):
        problem = "is a second way in, around the exposure"
        yield Contradiction("endpoint.type", model.endpoint.TAG, problem, "Use ClusterIP, or leave exposure out.")


def issuer(model: Model) -> Iterator[Contradiction]:
    """A certificate that cert-manager has nowhere to put."""
    exposure = model.exposure
    if isinstance(exposure, IngressExposure) and exposure.issuer is not None and exposure.tls_secret is None:
        problem = "has nowhere to put the certificate: tls_secret is missing"
        yield Contradiction("exposure.issuer", exposure.issuer, problem, "Name a Secret for it: exposure.tls_secret.")


def proxy_timeout(model: Model) -> Iterator[Contradiction]:
    """A proxy that gives up on answers which the server still writes."""
    exposure, answer = model.exposure, model.timing.answer_seconds
    if exposure is not None and exposure.timeout_seconds is not None and exposure.timeout_seconds < answer:
        yield Contradiction(
            "exposure.timeout_seconds",
            exposure.timeout_seconds,
            f"is less than timing.answer_seconds = {answer}: long answers would be cut off",
            "Raise it, lower answer_seconds, or leave it out.",
        )


def node_ports(models: Mapping[str, Model]) -> Iterator[Contradiction]:
    """Two models at one port of the nodes."""
    taken: dict[int, str] = {}
    for name, model in models.items():
        if not isinstance(model.endpoint, NodePortEndpoint):
            continue
        port = model.endpoint.port
        if port in taken:
            problem = f"is also the port of models.{taken[port]}.endpoint"
            yield Contradiction(f"models.{name}.endpoint.port", port, problem, "Give each model a port of its own.")
        taken[port] = name


def hosts(models: Mapping[str, Model]) -> Iterator[Contradiction]:
    """Two models under one name: requests would reach either."""
    taken: dict[str, str] = {}
    for name, model in models.items():
        if model.exposure is None:
            continue
        host = model.exposure.host
        if host in taken:
            problem = f"is also the host of models.{taken[host]}.exposure"
            yield Contradiction(f"models.{name}.exposure.host", host, problem, "Give each model a host of its own.")
        taken[host] = name


def client_cidrs(cidrs: tuple[str, ...] | None) -> Iterator[Contradiction]:
    """Addresses of clients that are no network."""
    for index, cidr in enumerate(cidrs or ()):
        try:
            ipaddress.ip_network(cidr)
        except ValueError as error:
            yield Contradiction(f"client_cidrs[{index}]", cidr, str(error), "Give a network such as 203.0.113.0/24.")
        else:
            if "/" not in cidr:
                problem = "does not say how many of its bits count"
                yield Contradiction(f"client_cidrs[{index}]", cidr, problem, f"Use {ipaddress.ip_network(cidr)}.")


def _open_nodes(endpoint: EndpointKind) -> bool:
    """Whether a port of the nodes may be reached from the internet: where a name leads to, nobody knows here."""
    if not isinstance(endpoint, NodePortEndpoint) or endpoint.host == "localhost":
        return False
    try:
        return ipaddress.ip_address(endpoint.host).is_global
    except ValueError:
        return True


CHECKS = (
    Check(Model, (), public_without_key),
    Check(Model, (), unenforced_clients),
    Check(GivenKeys, (), no_key),
    Check(Model, (), one_key),
    Check(Model, (), public_without_tls),
    Check(Model, (), internal_balancer),
    Check(Model, (), two_doors),
    Check(Model, (), issuer),
    Check(Model, (), proxy_timeout),
    Check(StackConfig, ("models",), node_ports),
    Check(StackConfig, ("models",), hosts),
    Check(Network, ("client_cidrs",), client_cidrs),
)
