"""KEDA's ScaledObject, as far as a model needs it."""

from dataclasses import dataclass

from infra.config.schema import Schedule
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
    """One signal, asked of one Prometheus; ``authentication`` names the TriggerAuthentication with its token."""

    signal: Signal
    prometheus_address: str
    authentication: str | None = None

    def to_spec(self) -> JsonObject:
        metadata = {
            "serverAddress": self.prometheus_address,
            "query": self.signal.query,
            "threshold": f"{self.signal.per_replica:g}",
            # An empty answer is a failed look, not "no load": it must not scale a busy model to its minimum.
            "ignoreNullValues": "false",
        }
        trigger: JsonObject = {
            "type": "prometheus",
            "name": self.signal.name,
            "metricType": self.signal.metric_type,
            "metadata": {**metadata, **({"authModes": "bearer"} if self.authentication else {})},
        }
        if self.authentication:
            trigger["authenticationRef"] = {"name": self.authentication}
        return trigger


@dataclass(frozen=True, kw_only=True)
class CronTrigger:
    """Hours for which replicas are kept ready."""

    schedule: Schedule
    number: int

    def to_spec(self) -> JsonObject:
        schedule = self.schedule
        metadata = {
            "timezone": schedule.timezone,
            "start": schedule.start,
            "end": schedule.end,
            "desiredReplicas": str(schedule.replicas),
        }
        return {"type": "cron", "name": f"schedule-{self.number}", "metricType": "AverageValue", "metadata": metadata}


@dataclass(frozen=True, kw_only=True)
class ScaledObject:
    """The autoscaling of one Deployment; times in seconds."""

    workload: Workload
    signals: tuple[PrometheusTrigger, ...]
    schedules: tuple[CronTrigger, ...]
    min_replicas: int
    max_replicas: int
    polling: int
    up_window: int
    down_window: int
    cooldown: int
    fallback_failures: int
    fallback_replicas: int

    def proofs(self) -> list[str]:
        """What must hold before it scales, as conditions of Pulumi's `waitFor`.

        KEDA keeps a health for each trigger, under the name of its metric, that only an answer makes happy.
        """
        names = [f"s{index}-prometheus" for index in range(len(self.signals))]
        return ["condition=Ready", *(f"jsonpath={{.status.health['{name}'].status}}=Happy" for name in names)]

    def to_spec(self) -> JsonObject:
        triggers = [*(signal.to_spec() for signal in self.signals), *(hours.to_spec() for hours in self.schedules)]
        spec: JsonObject = {
            "scaleTargetRef": {"apiVersion": DEPLOYMENT_API, "kind": "Deployment", "name": self.workload.name},
            "minReplicaCount": self.min_replicas,
            "maxReplicaCount": self.max_replicas,
            "pollingInterval": self.polling,
            "advanced": {
                "restoreToOriginalReplicaCount": False,
                "horizontalPodAutoscalerConfig": {
                    "behavior": {
                        "scaleUp": _direction(self.up_window, STEP_UP_PODS, STEP_UP_SECONDS),
                        "scaleDown": _direction(self.down_window, STEP_DOWN_PODS, STEP_DOWN_SECONDS),
                    }
                },
            },
            "triggers": triggers,
        }
        if self.min_replicas == 0:
            # KEDA looks at it for the last replica only.
            spec["cooldownPeriod"] = self.cooldown
        if self.signals:
            spec["fallback"] = {
                "failureThreshold": self.fallback_failures,
                "replicas": self.fallback_replicas,
                # Without an answer nobody knows the load: never fewer replicas than now.
                "behavior": "currentReplicasIfHigher",
            }
        return spec


def _direction(window: int, pods: int, period: int) -> JsonObject:
    return {
        "stabilizationWindowSeconds": window,
        "policies": [{"type": "Pods", "value": pods, "periodSeconds": period}],
    }
