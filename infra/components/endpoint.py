"""How clients reach a model."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra.config.schema import ClusterIpEndpoint, EndpointKind, LoadBalancerEndpoint, NodePortEndpoint
from infra.workload import Workload

# The path under which OpenAI's clients look for everything.
API_PATH = "/v1"


@dataclass(frozen=True, kw_only=True)
class EndpointArgs:
    """Which model, reached how; ``timeout``: seconds until its pods or its load balancer must be there."""

    workload: Workload
    kind: EndpointKind
    timeout: int
    namespace: pulumi.Input[str]


class Endpoint(pulumi.ComponentResource):
    """The Service of a model."""

    service: k8s.core.v1.Service
    url: pulumi.Output[str]

    def __init__(self, name: str, args: EndpointArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:Endpoint", name, None, opts)
        workload = args.workload
        node_port = args.kind.port if isinstance(args.kind, NodePortEndpoint) else None
        port = k8s.core.v1.ServicePortArgs(
            name=workload.port_name,
            port=workload.port,
            target_port=workload.port_name,
            protocol="TCP",
            node_port=node_port,
        )
        self.service = k8s.core.v1.Service(
            name,
            metadata=k8s.meta.v1.ObjectMetaArgs(name=workload.name, namespace=args.namespace, labels=workload.labels),
            spec=k8s.core.v1.ServiceSpecArgs(type=args.kind.TAG, selector=workload.selector, ports=[port]),
            opts=pulumi.ResourceOptions(
                parent=self,
                custom_timeouts=pulumi.CustomTimeouts(create=f"{args.timeout}s", update=f"{args.timeout}s"),
            ),
        )
        self.url = self._url(args)
        self.register_outputs({"url": self.url})

    def _url(self, args: EndpointArgs) -> pulumi.Output[str]:
        workload = args.workload
        match args.kind:
            case ClusterIpEndpoint():
                return pulumi.Output.from_input(f"http://{workload.host}:{workload.port}{API_PATH}")
            case NodePortEndpoint(port=port, host=host):
                return pulumi.Output.from_input(f"http://{host}:{port}{API_PATH}")
            case LoadBalancerEndpoint():
                ingress = self.service.status.load_balancer.ingress[0]
                address = pulumi.Output.all(ingress.ip, ingress.hostname).apply(lambda found: found[0] or found[1])
                return pulumi.Output.format("http://{0}:{1}{2}", address, workload.port, API_PATH)
