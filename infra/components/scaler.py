"""The autoscaling of a model by KEDA."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra.config.schema import Scaling
from infra.scaled_object import PrometheusTrigger, ScaledObject
from infra.signals import signals
from infra.versions import KEDA_API
from infra.workload import Workload

# The operator hands Prometheus a new configuration, Prometheus scrapes, KEDA looks: a minute or two, with room.
READY_TIMEOUT = "5m"


@dataclass(frozen=True, kw_only=True)
class ModelScalerArgs:
    """Which model, scaled how, on what which Prometheus says; ``after``: what must be there first."""

    workload: Workload
    scaling: Scaling
    prometheus_address: str
    namespace: pulumi.Input[str]
    after: tuple[pulumi.Resource, ...]


class ModelScaler(pulumi.ComponentResource):
    """The ScaledObject of a model.

    It comes after KEDA, the Deployment and the ServiceMonitor: then KEDA's webhook finds its target, the signals
    resolve, and on destroy it leaves before them.
    """

    scaled_object: k8s.apiextensions.CustomResource

    def __init__(self, name: str, args: ModelScalerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:ModelScaler", name, None, opts)
        workload, scaling = args.workload, args.scaling
        scaled_object = ScaledObject(
            workload=workload,
            triggers=tuple(
                PrometheusTrigger(signal=signal, workload=workload, prometheus_address=args.prometheus_address)
                for signal in signals(scaling)
            ),
            min_replicas=scaling.min_replicas,
            max_replicas=scaling.max_replicas,
            polling=scaling.polling_seconds,
            up_window=scaling.up_window_seconds,
            down_window=scaling.down_window_seconds,
            fallback_failures=scaling.fallback_failures,
            fallback_replicas=scaling.fallback_replicas or scaling.min_replicas,
        )
        self.scaled_object = k8s.apiextensions.CustomResource(
            name,
            api_version=KEDA_API,
            kind="ScaledObject",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=workload.name,
                namespace=args.namespace,
                labels=workload.labels,
                annotations={"pulumi.com/waitFor": "condition=Ready"},
            ),
            spec=scaled_object.to_spec(),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=args.after,
                custom_timeouts=pulumi.CustomTimeouts(create=READY_TIMEOUT, update=READY_TIMEOUT),
            ),
        )
        self.register_outputs({})
