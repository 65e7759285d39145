"""The identity of one served model: every name, label and port of its resources comes from here."""

from dataclasses import dataclass

from service.settings import DEFAULT_PORT

NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
PART_OF_LABEL = "app.kubernetes.io/part-of"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Who a model is in the cluster.

    ``name`` names the Deployment, Service, ServiceMonitor and ScaledObject alike; ``served_model`` is what clients call
    it.
    """

    namespace: str
    name: str
    served_model: str

    port_name = "http"
    port = DEFAULT_PORT
    container = "server"

    @property
    def selector(self) -> dict[str, str]:
        """The labels that tell this model's pods and Service from all others; they must never change."""
        return {NAME_LABEL: "llm-server", INSTANCE_LABEL: self.name}

    @property
    def labels(self) -> dict[str, str]:
        """The labels on everything that belongs to the model."""
        return {**self.selector, PART_OF_LABEL: "llm-stack", MANAGED_BY_LABEL: "pulumi"}

    @property
    def host(self) -> str:
        """The Service's name in the cluster."""
        return f"{self.name}.{self.namespace}.svc"
