"""The autoscaling of a model by KEDA."""

import json
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra.config.schema import Monitoring, Scaling
from infra.scaled_object import PrometheusTrigger, ScaledObject
from infra.signals import signals
from infra.versions import KEDA_API
from infra.workload import Workload

# Until Prometheus has its new configuration: its operator writes a Secret, which the kubelet hands on once a minute.
DISCOVERY_SECONDS = 120
# Looks that may come too early: each waits for a scrape, KEDA's interval and the autoscaler's (15 s by default).
LOOKS = 3
AUTOSCALER_SECONDS = 15


@dataclass(frozen=True, kw_only=True)
class ModelScalerArgs:
    """Which model, scaled how, on what which Prometheus says; ``after``: what must be there first."""

    workload: Workload
    scaling: Scaling
    monitoring: Monitoring
    namespace: pulumi.Input[str]
    after: tuple[pulumi.Resource, ...]


class ModelScaler(pulumi.ComponentResource):
    """The ScaledObject of a model.

    It comes after KEDA, the Deployment and the ServiceMonitor: then KEDA's webhook finds its target, and on destroy it leaves
    before them. The update waits until every signal has been answered: KEDA calls a ScaledObject ready as soon as its
    autoscaler exists, whether or not Prometheus knows the series. (Of a changed one it may still tell the health from before.)
    """

    scaled_object: k8s.apiextensions.CustomResource

    def __init__(self, name: str, args: ModelScalerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:ModelScaler", name, None, opts)
        workload, scaling, monitoring = args.workload, args.scaling, args.monitoring
        timeout = DISCOVERY_SECONDS + LOOKS * (
            monitoring.scrape_interval_seconds + scaling.polling_seconds + AUTOSCALER_SECONDS
        )
        scaled_object = ScaledObject(
            workload=workload,
            triggers=tuple(
                PrometheusTrigger(signal=signal, workload=workload, prometheus_address=monitoring.prometheus_address)
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
                annotations={"pulumi.com/waitFor": json.dumps(scaled_object.proofs())},
            ),
            spec=scaled_object.to_spec(),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=args.after,
                custom_timeouts=pulumi.CustomTimeouts(create=f"{timeout}s", update=f"{timeout}s"),
            ),
        )
        self.register_outputs({})
