"""How clients reach a model."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra.components.exposure import exposure_url, gateway_route, ingress
from infra.config.schema import (
    ClusterIpEndpoint,
    EndpointKind,
    Exposure,
    GatewayExposure,
    IngressExposure,
    LoadBalancerEndpoint,
    NodePortEndpoint,
)
from infra.network_policy import (
    DNS_PORT,
    EVERYWHERE,
    HTTP_PORT,
    HTTPS_PORT,
    IDENTITY_ADDRESSES,
    NAMESPACE_LABEL,
    NetworkPolicy,
)
from infra.workload import Workload

# The path under which OpenAI's clients look for everything.
API_PATH = "/v1"


@dataclass(frozen=True, kw_only=True)
class EndpointArgs:
    """Which model, reached how and by whom.

    ``answer``: seconds that an answer may take; ``timeout``: seconds until its pods or its load balancer must be there.
    ``policy`` is None where the pods are open to everyone; ``clients``: the addresses that alone may come, where that is said.
    """

    workload: Workload
    kind: EndpointKind
    exposure: Exposure | None
    policy: NetworkPolicy | None
    clients: tuple[str, ...]
    answer: int
    timeout: int
    namespace: pulumi.Input[str]


class Endpoint(pulumi.ComponentResource):
    """The Service of a model, what leads to it, and who may come."""

    service: k8s.core.v1.Service
    url: pulumi.Output[str]

    def __init__(self, name: str, args: EndpointArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:Endpoint", name, None, opts)
        workload = args.workload
        balancer = args.kind if isinstance(args.kind, LoadBalancerEndpoint) else None
        port = k8s.core.v1.ServicePortArgs(
            name=workload.port_name,
            port=_port(args),
            target_port=workload.port_name,
            protocol="TCP",
            node_port=args.kind.port if isinstance(args.kind, NodePortEndpoint) else None,
        )
        annotations = dict(balancer.annotations) if balancer and balancer.annotations else None
        self.service = k8s.core.v1.Service(
            name,
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=workload.name, namespace=args.namespace, labels=workload.labels, annotations=annotations
            ),
            spec=k8s.core.v1.ServiceSpecArgs(
                type=args.kind.TAG,
                selector=workload.selector,
                ports=[port],
                # Otherwise a node that passes a request on puts its own address in the place of the client's.
                external_traffic_policy="Local" if args.clients and args.kind.TAG != ClusterIpEndpoint.TAG else None,
                load_balancer_source_ranges=list(args.clients) if args.clients and balancer else None,
            ),
            opts=pulumi.ResourceOptions(
                parent=self,
                custom_timeouts=pulumi.CustomTimeouts(create=f"{args.timeout}s", update=f"{args.timeout}s"),
            ),
        )
        child = pulumi.ResourceOptions(parent=self, depends_on=[self.service])
        match args.exposure:
            case IngressExposure() as exposure:
                ingress(name, workload, exposure, args.answer, args.namespace, child)
            case GatewayExposure() as exposure:
                gateway_route(name, workload, exposure, args.answer, args.namespace, child)
        if args.policy is not None:
            _network_policy(name, args, args.policy, pulumi.ResourceOptions(parent=self))
        self.url = self._url(args)
        self.register_outputs({"url": self.url})

    def _url(self, args: EndpointArgs) -> pulumi.Output[str]:
        workload = args.workload
        if args.exposure is not None:
            return pulumi.Output.from_input(f"{exposure_url(args.exposure)}{API_PATH}")
        match args.kind:
            case ClusterIpEndpoint():
                return pulumi.Output.from_input(f"http://{workload.host}:{workload.port}{API_PATH}")
            case NodePortEndpoint(port=port, host=host):
                return pulumi.Output.from_input(f"http://{host}:{port}{API_PATH}")
            case LoadBalancerEndpoint(tls=tls):
                ingress = self.service.status.load_balancer.ingress[0]
                address = pulumi.Output.all(ingress.ip, ingress.hostname).apply(lambda found: found[0] or found[1])
                place = pulumi.Output.format("https://{0}" if tls else f"http://{{0}}:{workload.port}", address)
                return pulumi.Output.concat(place, API_PATH)


def _port(args: EndpointArgs) -> int:
    return HTTPS_PORT if isinstance(args.kind, LoadBalancerEndpoint) and args.kind.tls else args.workload.port


def _network_policy(
    name: str, args: EndpointArgs, policy: NetworkPolicy, opts: pulumi.ResourceOptions
) -> k8s.networking.v1.NetworkPolicy:
    workload = args.workload
    peers = [
        k8s.networking.v1.NetworkPolicyPeerArgs(
            namespace_selector=k8s.meta.v1.LabelSelectorArgs(match_labels={NAMESPACE_LABEL: namespace})
        )
        for namespace in policy.namespaces
    ]
    peers += _blocks(policy.cidrs)
    egress: list[k8s.networking.v1.NetworkPolicyEgressRuleArgs] = []
    if policy.identity:
        agents, port = _blocks(IDENTITY_ADDRESSES), _policy_port("TCP", HTTP_PORT)
        egress.append(k8s.networking.v1.NetworkPolicyEgressRuleArgs(to=agents, ports=[port]))
    if policy.egress_ports:
        outside = [_policy_port("TCP", port) for port in policy.egress_ports]
        names = [_policy_port(protocol, DNS_PORT) for protocol in ("UDP", "TCP")]
        egress += [
            k8s.networking.v1.NetworkPolicyEgressRuleArgs(to=_blocks(EVERYWHERE), ports=outside),
            k8s.networking.v1.NetworkPolicyEgressRuleArgs(ports=names),
        ]
    return k8s.networking.v1.NetworkPolicy(
        name,
        metadata=k8s.meta.v1.ObjectMetaArgs(name=workload.name, namespace=args.namespace, labels=workload.labels),
        spec=k8s.networking.v1.NetworkPolicySpecArgs(
            pod_selector=k8s.meta.v1.LabelSelectorArgs(match_labels=workload.selector),
            policy_types=["Ingress", "Egress"],
            ingress=[
                k8s.networking.v1.NetworkPolicyIngressRuleArgs(
                    from_=peers,
                    ports=[k8s.networking.v1.NetworkPolicyPortArgs(port=workload.port_name, protocol="TCP")],
                )
            ],
            egress=egress,
        ),
        opts=opts,
    )


def _blocks(cidrs: tuple[str, ...]) -> list[k8s.networking.v1.NetworkPolicyPeerArgs]:
    return [
        k8s.networking.v1.NetworkPolicyPeerArgs(ip_block=k8s.networking.v1.IPBlockArgs(cidr=cidr)) for cidr in cidrs
    ]


def _policy_port(protocol: str, port: int) -> k8s.networking.v1.NetworkPolicyPortArgs:
    return k8s.networking.v1.NetworkPolicyPortArgs(protocol=protocol, port=port)
