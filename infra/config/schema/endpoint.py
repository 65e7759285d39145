"""How clients reach a model, and who may."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from infra.config.parsing import key
from infra.config.schema.names import (
    DAY_SECONDS,
    DNS_LABEL,
    DNS_NAME,
    NODE_PORT_FIRST,
    NODE_PORT_LAST,
    OBJECT_NAME,
    annotations,
)


@dataclass(frozen=True, kw_only=True)
class ClusterIpEndpoint:
    """Reachable in the cluster only, unless an exposure leads to it."""

    TAG: ClassVar[str] = "ClusterIP"


@dataclass(frozen=True, kw_only=True)
class NodePortEndpoint:
    """Reachable on a port of every node."""

    TAG: ClassVar[str] = "NodePort"

    port: int = key("the port on the nodes", minimum=NODE_PORT_FIRST, maximum=NODE_PORT_LAST)
    host: str = key(
        "a node's address or name, for the address that the stack prints",
        pattern=r"[^\s/:]+",
        looks="a host without scheme or port",
    )


@dataclass(frozen=True, kw_only=True)
class LoadBalancerEndpoint:
    """Reachable at an address that the cluster's load balancer gives."""

    TAG: ClassVar[str] = "LoadBalancer"

    internal: bool = key(
        "whether only one's own network reaches it (say so to the cloud by its annotation)", default=False
    )
    tls: bool = key(
        "whether the load balancer ends TLS, by annotations of the cloud; it listens on 443 then", default=False
    )
    annotations: Mapping[str, str] = annotations("the Service's annotations, by which clouds are told")


EndpointKind = ClusterIpEndpoint | NodePortEndpoint | LoadBalancerEndpoint


@dataclass(frozen=True, kw_only=True)
class IngressExposure:
    """An Ingress leads to the model."""

    TAG: ClassVar[str] = "ingress"

    host: str = key("the name under which clients reach it", pattern=DNS_NAME, looks="a DNS name")
    class_name: str = key("the IngressClass", default="nginx", pattern=DNS_LABEL, looks="a DNS label")
    namespace: str = key(
        "the namespace of the ingress controller's pods",
        default="ingress-nginx",
        pattern=DNS_LABEL,
        looks="a DNS label",
    )
    tls_secret: str | None = key(
        "the Secret with the certificate; cert-manager fills it where issuer is given",
        default=None,
        pattern=DNS_LABEL,
        looks="a DNS label",
    )
    issuer: str | None = key(
        "cert-manager's ClusterIssuer for the certificate", default=None, pattern=OBJECT_NAME, looks="an object's name"
    )
    annotations: Mapping[str, str] = annotations("more annotations of the Ingress")
    timeout_seconds: int | None = key(
        "seconds until the proxy gives up on an answer; longer than answer_seconds when left out",
        default=None,
        minimum=1,
        maximum=DAY_SECONDS,
    )


@dataclass(frozen=True, kw_only=True)
class GatewayExposure:
    """A Gateway's HTTPRoute leads to the model; the Gateway's listener ends TLS."""

    TAG: ClassVar[str] = "gateway"

    host: str = key("the name under which clients reach it", pattern=DNS_NAME, looks="a DNS name")
    gateway: str = key("the Gateway", pattern=DNS_LABEL, looks="a DNS label")
    namespace: str = key("the Gateway's namespace, in which its pods run", pattern=DNS_LABEL, looks="a DNS label")
    section: str | None = key(
        "the Gateway's listener; any when left out", default=None, pattern=OBJECT_NAME, looks="a listener's name"
    )
    tls: bool = key("whether that listener ends TLS", default=True)
    timeout_seconds: int | None = key(
        "seconds until the Gateway gives up on an answer; longer than answer_seconds when left out",
        default=None,
        minimum=1,
        maximum=DAY_SECONDS,
    )


Exposure = IngressExposure | GatewayExposure


@dataclass(frozen=True, kw_only=True)
class NoKeys:
    """Whoever reaches the model may use it."""

    TAG: ClassVar[str] = "none"


@dataclass(frozen=True, kw_only=True)
class GeneratedKey:
    """The stack draws one key at its first update; `pulumi stack output api_keys --show-secrets` tells it."""

    TAG: ClassVar[str] = "generated"


@dataclass(frozen=True, kw_only=True)
class GivenKeys:
    """Keys of one's own."""

    TAG: ClassVar[str] = "given"

    keys: str = key(
        "the keys, one per line; a change takes effect by itself (runtime vllm: one key, and new pods)",
        secret=True,
    )


ApiKeys = NoKeys | GeneratedKey | GivenKeys


@dataclass(frozen=True, kw_only=True)
class Network:
    """Who may talk to the model's pods (NetworkPolicy), where the cluster's network enforces it."""

    policy: bool = key("whether the pods are closed to everyone else", default=True)
    client_namespaces: tuple[str, ...] = key(
        "namespaces whose pods may send requests, besides the models' own and the exposure's",
        default=(),
        pattern=DNS_LABEL,
        looks="a DNS label",
    )
    client_cidrs: tuple[str, ...] | None = key(
        "addresses outside the cluster's pods that may send requests, such as a cloud's proxies (GKE's Gateway: "
        "35.191.0.0/16 and 130.211.0.0/22); when left out, everywhere for NodePort and LoadBalancer, nowhere for ClusterIP",
        default=None,
    )
