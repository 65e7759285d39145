"""The rules of one model: what was promised, what was measured of it, and what to tell when it is not kept.

No answer is never "all is well": where a rule could fall silent because its series are gone, another one tells of that
(``LlmTargetsAbsent`` for the pods' own, ``LlmKedaAbsent``, ``LlmKubeStateMetricsAbsent`` and ``LlmGpuMetricsAbsent`` for
the platform's).
"""

from dataclasses import dataclass, replace
from functools import cached_property

from infra.config.schema.objectives import Objectives
from infra.observability import keda, slo
from infra.observability.rules import AlertRule, RecordingRule, RuleGroup, rules_spec
from infra.series import ModelSeries
from infra.wire import JsonObject
from infra.workload import Workload
from service.metric_names import (
    FINISHED_REASON_LABEL,
    KV_CACHE_USAGE,
    PREEMPTIONS,
    REQUEST_SUCCESS,
    REQUESTS_RUNNING,
    REQUESTS_WAITING,
)

MARGIN = 300  # seconds that something expected may be late before it is told
DOWN = 300  # seconds without any replica that are told although no start is under way
UNSEEN = 600  # seconds that Prometheus may take to find a new pod, or KEDA to recover, before it is told
PAUSED = 3600  # seconds: long enough to work on something, short enough not to be forgotten until the next load
FULL_LASTING = 900  # seconds for which a resource is at its end: shorter peaks are what it is for
# The autoscaler is content with a queue at its target; twice that is one that it does not get rid of.
QUEUE_TOO_LONG = 2.0
QUEUE_PER_REPLICA = 5.0  # requests, where the queue is no signal of the autoscaler
KV_CACHE_FULL = 0.95  # share in use; above it new requests wait and running ones are thrown out
PREEMPTED = 0.05  # preemptions per request that ended: one in twenty is computed twice
GPU_MEMORY_FULL = 0.98  # share in use; servers take a fixed share at their start, and this is more than any
RESTARTS = 3  # in an hour: not a single accident
ERRORS_MINUTES = 15  # of the autoscaler's errors: long enough that those of one disturbance are counted together

TARGET = "llm:replica_target:requests"
OBJECTIVE = "llm:objective:seconds"


@dataclass(frozen=True, kw_only=True)
class ModelRules:
    """One model's PrometheusRule.

    ``gpus``: whether its pods hold GPUs that the DCGM exporter watches; ``honor_labels``: as in that exporter's scrape.
    ``waiting_per_replica``, ``running_per_replica``: the autoscaler's targets. ``start_seconds``: from a pod's creation
    until it is ready; ``node_seconds``: until a node for it is there (0 where nodes are not made on demand).
    ``fallback_failures``: failed looks after which KEDA's fallback applies. ``runbooks``: the address under which
    ``docs/runbooks`` is read. Create it after the Deployment is ready, or a first start is told as an outage.
    """

    workload: Workload
    objectives: Objectives
    min_replicas: int
    gpus: bool
    honor_labels: bool
    waiting_per_replica: float | None
    running_per_replica: float | None
    start_seconds: int
    node_seconds: int
    fallback_failures: int
    runbooks: str

    def to_spec(self) -> JsonObject:
        return rules_spec(self.groups, self.runbooks)

    @property
    def groups(self) -> tuple[RuleGroup, ...]:
        promises = slo.objectives(self.objectives, self._series)
        burning = [alert for promise in promises for alert in slo.burn_alerts(self._series, promise)]
        slow = [alert for promise in promises for alert in slo.slow_alerts(self._series, promise)]
        return (
            *slo.records(self._series, promises),
            self._group("targets", self._targets(promises)),
            self._group("promises", (*burning, *slow)),
            self._group("replicas", self._replicas()),
            self._group("load", self._load()),
            self._group("autoscaling", self._autoscaling()),
        )

    def _group(self, name: str, rules: tuple[RecordingRule | AlertRule, ...]) -> RuleGroup:
        labels = {"namespace": self.workload.namespace, "service": self.workload.name}
        own = tuple(replace(rule, labels={**labels, **rule.labels}) for rule in rules)
        return RuleGroup(name=f"{self.workload.namespace}.{self.workload.name}.{name}", rules=own)

    @cached_property
    def _series(self) -> ModelSeries:
        return ModelSeries.of(self.workload, honor_labels=self.honor_labels)

    @property
    def _cold_start(self) -> int:
        return self.node_seconds + self.start_seconds

    @property
    def _wanted(self) -> str:
        return f"sum({self._series.deployment('kube_deployment_spec_replicas')})"

    @property
    def _available(self) -> str:
        return f"sum({self._series.deployment('kube_deployment_status_replicas_available')})"

    @property
    def _awake(self) -> str:
        """A model that may have no replica is only missed while one is wanted."""
        return "" if self.min_replicas else f"\n  and on () {self._wanted} > 0"

    @property
    def _measured(self) -> str:
        """A model that may have no replica is only measured while one is ready: each wake begins with failed looks."""
        # By a step longer than errors are counted: none of the wake is still there when its silence ends.
        ready = f"min_over_time({self._available}[{ERRORS_MINUTES + 1}m:1m])"
        return "" if self.min_replicas else f"\n  and on () {ready} > 0"

    @property
    def _blind(self) -> int:
        """Seconds for which the signals may be missing: those of a first pod are, until it is ready."""
        return MARGIN if self.min_replicas else self._cold_start + MARGIN

    @property
    def _queue(self) -> str:
        """Requests that wait, per replica."""
        waiting = self._series.server(REQUESTS_WAITING)
        return f"sum({waiting}) / count(count by (pod) ({waiting}))"

    @property
    def _queue_target(self) -> float:
        return self.waiting_per_replica or QUEUE_PER_REPLICA

    def _targets(self, promises: tuple[slo.Objective, ...]) -> tuple[RecordingRule, ...]:
        """What was promised and aimed at, as series, for the dashboard to draw beside what was measured."""
        aims = {"waiting": self.waiting_per_replica, "running": self.running_per_replica}
        return (
            *(
                RecordingRule(record=TARGET, expression=f"vector({aim:g})", labels={"signal": signal})
                for signal, aim in aims.items()
                if aim is not None
            ),
            *(
                RecordingRule(
                    record=OBJECTIVE,
                    expression=f"vector({promise.seconds:g})",
                    labels={"objective": promise.name},
                )
                for promise in promises
                if promise.seconds is not None
            ),
        )

    def _replicas(self) -> tuple[AlertRule, ...]:
        series, name = self._series, self.workload.name
        unschedulable = series.pod("kube_pod_status_unschedulable")
        restarts = series.pod("kube_pod_container_status_restarts_total", container=self.workload.container)
        scraped = f"count(count by (pod) ({series.server(REQUESTS_RUNNING)}))"
        return (
            AlertRule(
                name="LlmDown",
                # Also where the Deployment is gone; but not where nobody knows of any Deployment.
                expression=f"({self._available} or 0 * sum(kube_deployment_status_replicas_available)) < 1{self._awake}",
                severity="page",
                lasting=DOWN if self.min_replicas else self._cold_start + DOWN,
                summary=f"Model {name}: nothing answers",
                description="No replica is ready. Every request fails.",
            ),
            AlertRule(
                name="LlmReplicasMissing",
                expression=f"{self._wanted} - {self._available} > 0",
                severity="ticket",
                lasting=self._cold_start + MARGIN,
                summary=f"Model {name}: fewer replicas serve than are wanted",
                description="{{ $value }} replicas are not ready, longer than a start takes.",
            ),
            AlertRule(
                name="LlmPodsUnschedulable",
                expression=f"sum({unschedulable}) > 0",
                severity="ticket",
                lasting=self.node_seconds + MARGIN,
                summary=f"Model {name}: pods find no node" + (" with a free GPU" if self.gpus else ""),
                description="{{ $value }} pods wait for a node, longer than a new one takes.",
            ),
            AlertRule(
                name="LlmPodsRestarting",
                expression=f"sum(increase({restarts}[1h])) >= {RESTARTS}",
                severity="ticket",
                lasting=0,
                summary=f"Model {name}: the server ends and is started again",
                description='About {{ $value | printf "%.0f" }} restarts in the last hour; each cuts the answers of its replica.',
            ),
            AlertRule(
                name="LlmTargetsAbsent",
                expression=f"{self._available} > ({scraped} or vector(0))",
                severity="page",
                lasting=UNSEEN,
                summary=f"Model {name}: Prometheus does not see its pods, so no other alert can be trusted",
                description="{{ $value }} replicas are ready, and fewer are scraped.",
            ),
        )

    def _load(self) -> tuple[AlertRule, ...]:
        series, name = self._series, self.workload.name
        ended = series.server(f"{REQUEST_SUCCESS}_total", **{FINISHED_REASON_LABEL: slo.COUNTED})
        preempted = series.server(f"{PREEMPTIONS}_total")
        most = QUEUE_TOO_LONG * self._queue_target
        alerts = (
            AlertRule(
                name="LlmQueueLong",
                expression=f"{self._queue} > {most:g}",
                severity="ticket",
                lasting=self._cold_start + MARGIN,
                summary=f"Model {name}: requests queue, and new replicas do not help",
                description='{{ $value | printf "%.1f" }} requests wait for each replica; the autoscaler aims at '
                f"{self._queue_target:g}, and a new replica would be there by now.",
            ),
            AlertRule(
                name="LlmKvCacheFull",
                expression=f"max({series.server(KV_CACHE_USAGE)}) > {KV_CACHE_FULL}",
                severity="ticket",
                lasting=FULL_LASTING,
                summary=f"Model {name}: no room for the context of more requests",
                description="{{ $value | humanizePercentage }} of the KV cache of the fullest replica are in use.",
            ),
            AlertRule(
                name="LlmPreemptions",
                expression=f"sum(rate({preempted}[15m])) / sum(rate({ended}[15m])) > {PREEMPTED}",
                severity="ticket",
                lasting=FULL_LASTING,
                summary=f"Model {name}: running requests are thrown out and computed again",
                description='{{ $value | printf "%.2f" }} preemptions for each request that ended.',
            ),
        )
        return (*alerts, self._gpu_memory()) if self.gpus else alerts

    def _gpu_memory(self) -> AlertRule:
        used, free = self._series.gpu("DCGM_FI_DEV_FB_USED"), self._series.gpu("DCGM_FI_DEV_FB_FREE")
        return AlertRule(
            name="LlmGpuMemoryFull",
            # What the driver reserves is left out: the exporter's chart does not export it, and no one can use it.
            expression=f"max({used} / ({used} + {free})) > {GPU_MEMORY_FULL}",
            severity="ticket",
            lasting=UNSEEN,
            summary=f"Model {self.workload.name}: a GPU's memory is nearly full",
            description="{{ $value | humanizePercentage }} of the fullest GPU's memory are in use; the server may end "
            "out of memory.",
        )

    def _autoscaling(self) -> tuple[AlertRule, ...]:
        series, name = self._series, self.workload.name
        desired = series.autoscaler("kube_horizontalpodautoscaler_status_desired_replicas")
        most = series.autoscaler("kube_horizontalpodautoscaler_spec_max_replicas")
        inactive = series.autoscaler(
            "kube_horizontalpodautoscaler_status_condition", condition="ScalingActive", status="false"
        )
        errors = f"sum by (scaler) ({keda.errors(series, 'increase', f'{ERRORS_MINUTES}m')})"
        empty = f"sum by (scaler) ({keda.empty(series, 'increase', '5m')})"
        return (
            AlertRule(
                name="LlmAtMaximum",
                expression=f"max({desired}) >= max({most})\n  and on () {self._queue} > {self._queue_target:g}",
                severity="ticket",
                lasting=UNSEEN,
                summary=f"Model {name}: requests queue, and no more replicas are allowed",
                description="All {{ $value }} replicas that max_replicas allows are wanted, and requests still wait.",
            ),
            AlertRule(
                name="LlmAutoscalerInactive",
                # Without a replica that is its right state.
                expression=f"max({inactive}) == 1\n  and on () {self._wanted} > 0",
                severity="ticket",
                lasting=UNSEEN,
                summary=f"Model {name}: the autoscaler does nothing",
                description="The HorizontalPodAutoscaler gets no metric and leaves the replicas as they are.",
            ),
            AlertRule(
                name="LlmAutoscalerPaused",
                expression=f"max({keda.paused(series)}) == 1",
                severity="ticket",
                lasting=PAUSED,
                summary=f"Model {name}: somebody paused the autoscaler, and it still is",
                description="An annotation of the ScaledObject pauses it: load brings no more replicas.",
            ),
            AlertRule(
                name="LlmScalerErrors",
                expression=f"{errors} >= {min(self.fallback_failures, 2)}{self._measured}",
                severity="ticket",
                lasting=0,
                summary=f"Model {name}: the autoscaler could not read a signal",
                description='KEDA failed to read {{ $labels.scaler }} {{ $value | printf "%.0f" }} times '
                f"in {ERRORS_MINUTES} minutes.",
            ),
            AlertRule(
                name="LlmScalerEmptyAnswers",
                expression=f"{empty} > 0{self._awake}",
                severity="ticket",
                lasting=self._blind,
                summary=f"Model {name}: a signal of the autoscaler has no data",
                description="Prometheus answers KEDA's query for {{ $labels.scaler }} with nothing.",
            ),
            AlertRule(
                name="LlmFallbackActive",
                expression=f"{keda.fallback(series)}{self._awake}",
                severity="ticket",
                lasting=self._blind,
                summary=f"Model {name}: the autoscaler is blind and holds the replicas as they are",
                description="{{ $value | humanizePercentage }} of KEDA's queries for {{ $labels.scaler }} fail, and its "
                "fallback answers instead: more load brings no more replicas.",
            ),
        )
