"""Who may reach a model's pods, and what they may reach."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from infra.config.schema import (
    ClusterIpEndpoint,
    HubWeights,
    Model,
    S3Weights,
    Weights,
)

NAMESPACE_LABEL = "kubernetes.io/metadata.name"
HTTPS_PORT, HTTP_PORT, DNS_PORT = 443, 80, 53
EVERYWHERE = ("0.0.0.0/0", "::/0")
# Where pods get credentials of their cloud: the instance's metadata (all clouds), and the agent of EKS Pod Identity.
IDENTITY_ADDRESSES = ("169.254.169.254/32", "169.254.170.23/32", "fd00:ec2::254/128", "fd00:ec2::23/128")


@dataclass(frozen=True, kw_only=True)
class NetworkPolicy:
    """The open doors of a model's pods: who may send requests, and the ports outside that they may call.

    ``identity``: whether they may ask the cloud for credentials.
    """

    namespaces: tuple[str, ...]
    cidrs: tuple[str, ...]
    egress_ports: tuple[int, ...]
    identity: bool

    @classmethod
    def of(cls, model: Model, *, namespace: str, monitoring_namespace: str) -> "NetworkPolicy":
        """Requests come from the model's own namespace, the exposure's and those configured; scrapes from Prometheus' own."""
        exposed = (model.exposure.namespace,) if model.exposure is not None else ()
        named = (namespace, monitoring_namespace, *exposed, *model.network.client_namespaces)
        outside = () if isinstance(model.endpoint, ClusterIpEndpoint) else EVERYWHERE
        given = model.network.client_cidrs
        return cls(
            namespaces=tuple(dict.fromkeys(named)),
            cidrs=outside if given is None else given,
            egress_ports=_egress(model.weights),
            identity=isinstance(model.weights, S3Weights) and model.weights.access_key is None,
        )


def _egress(weights: Weights) -> tuple[int, ...]:
    """Only where weights come from: volumes and images are mounted by the node, not fetched by the pod."""
    match weights:
        case HubWeights(endpoint=endpoint) | S3Weights(endpoint=endpoint):
            return (HTTPS_PORT,) if endpoint is None else tuple(dict.fromkeys((_port(endpoint), HTTPS_PORT)))
        case _:
            return ()


def _port(address: str) -> int:
    parts = urlsplit(address)
    return parts.port or (HTTPS_PORT if parts.scheme == "https" else HTTP_PORT)
