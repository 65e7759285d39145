"""The token of a Prometheus that asks for one, for whoever asks it on a model's behalf."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra.versions import KEDA_API
from infra.workload import Workload

TOKEN_KEY = "token"


@dataclass(frozen=True, kw_only=True)
class PrometheusAccessArgs:
    """Whose access, with which token; ``keda``: what brings the definition of a TriggerAuthentication."""

    workload: Workload
    token: str
    keda: pulumi.Resource
    namespace: pulumi.Input[str]


class PrometheusAccess(pulumi.ComponentResource):
    """The token as a Secret, and KEDA's permission to use it; both have the name ``name_of`` gives."""

    resources: tuple[pulumi.Resource, ...]

    def __init__(self, name: str, args: PrometheusAccessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:PrometheusAccess", name, None, opts)
        metadata = k8s.meta.v1.ObjectMetaArgs(
            name=self.name_of(args.workload), namespace=args.namespace, labels=args.workload.labels
        )
        token = k8s.core.v1.Secret(
            f"{name}-prometheus",
            metadata=metadata,
            string_data=pulumi.Output.secret({TOKEN_KEY: args.token}),
            opts=pulumi.ResourceOptions(parent=self),
        )
        reference = {"parameter": "bearerToken", "name": self.name_of(args.workload), "key": TOKEN_KEY}
        permission = k8s.apiextensions.CustomResource(
            f"{name}-prometheus",
            api_version=KEDA_API,
            kind="TriggerAuthentication",
            metadata=metadata,
            spec={"secretTargetRef": [reference]},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[token, args.keda]),
        )
        self.resources = (token, permission)
        self.register_outputs({})

    @staticmethod
    def name_of(workload: Workload) -> str:
        return f"{workload.name}-prometheus"
