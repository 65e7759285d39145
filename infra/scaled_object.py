"""KEDA's ScaledObject, as far as a model needs it."""

from dataclasses import dataclass

from infra.signals import Signal
from infra.versions import DEPLOYMENT_API
from infra.wire import JsonObject
from infra.workload import Workload

# One replica more or less changes what every other one carries: small steps, each with time to show its effect. Adding
# is quicker than removing, since a queue costs users more than an idle minute costs money.
STEP_UP_PODS = 2
STEP_UP_SECONDS = 30
STEP_DOWN_PODS = 1
STEP_DOWN_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class PrometheusTrigger:
    """One signal, asked of one Prometheus."""

    signal: Signal
    workload: Workload
    prometheus_address: str

    def to_spec(self) -> JsonObject:
        return {
            "type": "prometheus",
            "name": self.signal.name,
            "metricType": self.signal.metric_type,
            "metadata": {
                "serverAddress": self.prometheus_address,
                "query": self.signal.query(self.workload),
                "threshold": f"{self.signal.per_replica:g}",
                # An empty answer is a failed look, not "no load": it must not scale a busy model to its minimum.
                "ignoreNullValues": "false",
            },
        }


@dataclass(frozen=True, kw_only=True)
class ScaledObject:
    """The autoscaling of one Deployment; times in seconds."""

    workload: Workload
    triggers: tuple[PrometheusTrigger, ...]
    min_replicas: int
    max_replicas: int
    polling: int
    up_window: int
    down_window: int
    fallback_failures: int
    fallback_replicas: int

    def proofs(self) -> list[str]:
        """What must hold before it scales, as conditions of Pulumi's `waitFor`.

        KEDA keeps a health for each trigger, under the name of its metric, that only an answer makes happy.
        """
        names = [f"s{index}-prometheus" for index in range(len(self.triggers))]
        return ["condition=Ready", *(f"jsonpath={{.status.health['{name}'].status}}=Happy" for name in names)]

    def to_spec(self) -> JsonObject:
        return {
            "scaleTargetRef": {"apiVersion": DEPLOYMENT_API, "kind": "Deployment", "name": self.workload.name},
            "minReplicaCount": self.min_replicas,
            "maxReplicaCount": self.max_replicas,
            "pollingInterval": self.polling,
            "fallback": {
                "failureThreshold": self.fallback_failures,
                "replicas": self.fallback_replicas,
                # Without an answer nobody knows the load: never fewer replicas than now.
                "behavior": "currentReplicasIfHigher",
            },
            "advanced": {
                "restoreToOriginalReplicaCount": False,
                "horizontalPodAutoscalerConfig": {
                    "behavior": {
                        "scaleUp": _direction(self.up_window, STEP_UP_PODS, STEP_UP_SECONDS),
                        "scaleDown": _direction(self.down_window, STEP_DOWN_PODS, STEP_DOWN_SECONDS),
                    }
                },
            },
            "triggers": [trigger.to_spec() for trigger in self.triggers],
        }


def _direction(window: int, pods: int, period: int) -> JsonObject:
    return {
        "stabilizationWindowSeconds": window,
        "policies": [{"type": "Pods", "value": pods, "periodSeconds": period}],
    }
