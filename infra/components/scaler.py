"""The autoscaling of a model by KEDA."""

import json
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra.config.schema import Scaling
from infra.scaled_object import CronTrigger, PrometheusTrigger, ScaledObject
from infra.signals import Signal
from infra.versions import KEDA_API
from infra.workload import Workload

# Until Prometheus has its new configuration: its operator writes a Secret, which the kubelet hands on once a minute.
DISCOVERY_SECONDS = 120
# Looks that may come too early: each waits for a scrape, KEDA's interval and the autoscaler's (15 s by default).
LOOKS = 3
AUTOSCALER_SECONDS = 15


@dataclass(frozen=True, kw_only=True)
class ModelScalerArgs:
    """Which model, scaled how, on what which Prometheus says; ``after``: what must be there first.

    ``authentication`` names the TriggerAuthentication for a Prometheus that asks for a token; ``cooldown``: seconds before the
    last replica goes.
    """

    workload: Workload
    scaling: Scaling
    signals: tuple[Signal, ...]
    prometheus_address: str
    authentication: str | None
    scrape_interval: int
    cooldown: int
    namespace: pulumi.Input[str]
    after: tuple[pulumi.Resource, ...]


class ModelScaler(pulumi.ComponentResource):
    """The ScaledObject of a model.

    It comes after KEDA, the Deployment and the ServiceMonitor: then KEDA's webhook finds its target, and on destroy it leaves
    before them. The update waits until every signal has been answered: KEDA calls a ScaledObject ready as soon as its
    autoscaler exists, whether or not Prometheus knows the series. Of a changed one it may still tell the health from before:
    what then counts is the :class:`SignalProof` that comes first.
    """

    scaled_object: k8s.apiextensions.CustomResource

    def __init__(self, name: str, args: ModelScalerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:ModelScaler", name, None, opts)
        workload, scaling = args.workload, args.scaling
        timeout = DISCOVERY_SECONDS + LOOKS * (args.scrape_interval + scaling.polling_seconds + AUTOSCALER_SECONDS)
        scaled_object = ScaledObject(
            workload=workload,
            signals=tuple(
                PrometheusTrigger(
                    signal=signal,
                    prometheus_address=args.prometheus_address,
                    authentication=args.authentication,
                )
                for signal in args.signals
            ),
            schedules=tuple(
                CronTrigger(schedule=schedule, number=number) for number, schedule in enumerate(scaling.schedules)
            ),
            min_replicas=scaling.min_replicas,
            max_replicas=scaling.max_replicas,
            polling=scaling.polling_seconds,
            up_window=scaling.up_window_seconds,
            down_window=scaling.down_window_seconds,
            cooldown=args.cooldown,
            fallback_failures=scaling.fallback_failures,
            fallback_replicas=scaling.fallback_replicas or max(1, scaling.min_replicas),
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
