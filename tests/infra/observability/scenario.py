"""Three hours of one model: load comes and goes, replicas follow, Prometheus is out of reach for a while.

As OpenMetrics text, a sample every quarter of a minute, computed without chance: what the panels are drawn from.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from service import metric_names as names
from service.metric_names import FIRST_TOKEN_BUCKETS, INTER_TOKEN_BUCKETS, REQUEST_BUCKETS
from tests.infra.observability.healthy import LABELS, autoscaler, deployment, empty_answers, keda, looks
from tests.infra.observability.scrape import KEDA, STATE, Scrape, dcgm, server

START = 1_767_268_800  # 2026-01-01 12:00 UTC, in seconds
MINUTES = 180
STEP = 15  # seconds
SEATS = 16  # requests that one replica computes together
MOST = 4  # replicas
SECONDS_PER_ANSWER = 12.0
TOKENS_PER_ANSWER = 300
PROMPT_TOKENS_PER_ANSWER = 900
# From and to which minute each replica serves.
REPLICAS = ((0, 181), (0, 181), (50, 150), (62, 140))
BLIND = (100, 118)  # minutes in which the signal "waiting" has no data


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The model at one time; ``load`` in requests that users have under way at once."""

    minute: float

    @property
    def load(self) -> float:
        peak = 56 * math.exp(-(((self.minute - 85) / 38) ** 2))
        return 12 + peak + 3 * math.sin(self.minute / 4) + 2 * math.sin(self.minute / 1.3)

    @property
    def serving(self) -> tuple[int, ...]:
        return tuple(number for number, (start, end) in enumerate(REPLICAS) if start <= self.minute < end)

    @property
    def wanted(self) -> int:
        return sum(1 for start, end in REPLICAS if start - 5 <= self.minute < end)

    @property
    def running(self) -> float:
        return min(SEATS, self.load / len(self.serving))

    @property
    def waiting(self) -> float:
        return max(0.0, self.load / len(self.serving) - SEATS)

    @property
    def answers_per_second(self) -> float:
        """Of one replica."""
        return self.running / (SECONDS_PER_ANSWER * (0.6 + 0.4 * self.running / SEATS))


class Counter(dict[str, float]):
    """Counters and histograms as they grow."""

    def add(self, series: str, amount: float) -> None:
        self[series] = self.get(series, 0.0) + amount

    def observe(
        self, scrape: Scrape, metric: str, buckets: tuple[float, ...], *, count: float, median: float, spread: float
    ) -> None:
        """So many observations around ``median``, log-normal with ``spread``."""
        for bucket in buckets:
            share = 0.5 * (1 + math.erf(math.log(bucket / median) / (spread * math.sqrt(2))))
            self.add(scrape.series(f"{metric}_bucket", **LABELS, le=str(bucket)), count * share)
        self.add(scrape.series(f"{metric}_bucket", **LABELS, le="+Inf"), count)
        self.add(scrape.series(f"{metric}_count", **LABELS), count)


def openmetrics() -> str:
    """Every sample of the scenario; those of a replica only while it serves."""
    lines: dict[str, list[str]] = {}
    for time, samples in _samples():
        for series, value in samples.items():
            lines.setdefault(series, []).append(f"{series} {value:.10g} {time}")
    return "\n".join([line for series in sorted(lines) for line in lines[series]] + ["# EOF\n"])


def _samples() -> Iterator[tuple[int, dict[str, float]]]:
    counters = [Counter() for _ in REPLICAS]
    shared = Counter()
    for tick in range(MINUTES * 60 // STEP + 1):
        moment = Moment(minute=tick * STEP / 60)
        _count_keda(shared, moment)
        samples = {**_cluster(moment), **shared}
        for number in moment.serving:
            _count(counters[number], number, moment)
            samples |= {**_replica(number, moment), **counters[number]}
        yield START + tick * STEP, samples


def _pod(number: int) -> str:
    return f"chat-6d5f7c9b8-{'abcde'[number] * 5}"


def _count(counters: Counter, number: int, moment: Moment) -> None:
    pod, rate = server(_pod(number)), moment.answers_per_second * STEP
    wait = 0.05 + moment.waiting * SECONDS_PER_ANSWER / SEATS
    between = 0.02 + 0.0012 * moment.running
    busy = moment.running / SEATS
    counters.observe(
        pod, names.TIME_TO_FIRST_TOKEN, FIRST_TOKEN_BUCKETS, count=rate, median=0.25 + 0.3 * busy + wait, spread=0.5
    )
    counters.observe(
        pod, names.INTER_TOKEN_LATENCY, INTER_TOKEN_BUCKETS, count=rate * TOKENS_PER_ANSWER, median=between, spread=0.4
    )
    answer = wait + between * TOKENS_PER_ANSWER
    counters.observe(pod, names.REQUEST_LATENCY, REQUEST_BUCKETS, count=rate, median=answer, spread=0.6)
    counters.observe(pod, names.QUEUE_TIME, REQUEST_BUCKETS, count=rate, median=wait, spread=0.7)
    for reason, share in (("stop", 0.8), ("length", 0.16), ("abort", 0.035), ("error", 0.001 + 0.004 * (busy > 0.99))):
        own = {names.FINISHED_REASON_LABEL: reason}
        counters.add(pod.series(f"{names.REQUEST_SUCCESS}_total", **LABELS, **own), rate * share)
    cached = 0.35 + 0.1 * math.sin(moment.minute / 20)
    for metric, amount in (
        (names.PROMPT_TOKENS, rate * PROMPT_TOKENS_PER_ANSWER),
        (names.GENERATION_TOKENS, rate * TOKENS_PER_ANSWER),
        (names.PREFIX_CACHE_QUERIES, rate * PROMPT_TOKENS_PER_ANSWER),
        (names.PREFIX_CACHE_HITS, rate * PROMPT_TOKENS_PER_ANSWER * cached),
        (names.PREEMPTIONS, rate * max(0.0, _cache(moment) - 0.9)),
    ):
        counters.add(pod.series(f"{metric}_total", **LABELS), amount)


def _cache(moment: Moment) -> float:
    return min(0.98, 0.08 + 0.055 * moment.running)


def _replica(number: int, moment: Moment) -> dict[str, float]:
    pod = server(_pod(number))
    gpu = {"gpu": str(number % 2), "UUID": f"GPU-{number}", "modelName": "NVIDIA L4", "Hostname": f"gpu-{number // 2}"}
    own = {"namespace": "llm", "pod": _pod(number), "container": "server"}
    exporter, busy = dcgm(honor_labels=True), moment.running / SEATS
    return {
        pod.series(names.REQUESTS_RUNNING, **LABELS): round(moment.running),
        pod.series(names.REQUESTS_WAITING, **LABELS): round(moment.waiting),
        pod.series(names.KV_CACHE_USAGE, **LABELS): _cache(moment) - 0.03 * number,
        exporter.series("DCGM_FI_DEV_GPU_UTIL", **gpu, **own): 88 + 11 * busy - number,
        exporter.series("DCGM_FI_DEV_FB_USED", **gpu, **own): 20_700 + 40 * number,
        exporter.series("DCGM_FI_DEV_FB_FREE", **gpu, **own): 2_300 - 40 * number,
        exporter.series("DCGM_FI_DEV_GPU_TEMP", **gpu, **own): 52 + 2 * number + 24 * busy,
        STATE.series(
            "kube_pod_container_status_restarts_total",
            namespace="llm",
            pod=_pod(number),
            container="server",
            uid=str(number),
        ): 1.0 if number == 1 and moment.minute > 130 else 0.0,
    }


def _blind(moment: Moment) -> bool:
    return BLIND[0] <= moment.minute < BLIND[1]


def _count_keda(counters: Counter, moment: Moment) -> None:
    for trigger in ("waiting", "running"):
        # KEDA looks every 15 seconds, and the autoscaler asks it as often; a query that failed is asked once more.
        blind = trigger == "waiting" and _blind(moment)
        counters.add(looks(trigger, "200"), 4 if blind else 2)
        counters.add(empty_answers(trigger), 4 if blind else 0)
        counters.add(
            keda("keda_scaler_detail_errors_total", trigger), 1 if blind and moment.minute < BLIND[0] + 1 else 0
        )


def _cluster(moment: Moment) -> dict[str, float]:
    ready = len(moment.serving)
    condition = "kube_horizontalpodautoscaler_status_condition"
    pending = STATE.series("kube_pod_status_unschedulable", namespace="llm", pod=_pod(3), uid="3")
    waiting = 5.0 * ready if _blind(moment) else ready * moment.waiting
    return {
        deployment("kube_deployment_spec_replicas"): moment.wanted,
        deployment("kube_deployment_status_replicas_available"): ready,
        autoscaler("kube_horizontalpodautoscaler_status_desired_replicas"): moment.wanted,
        autoscaler("kube_horizontalpodautoscaler_spec_max_replicas"): MOST,
        autoscaler(condition, condition="ScalingActive", status="true"): 1,
        autoscaler(condition, condition="ScalingActive", status="false"): 0,
        STATE.series("kube_node_status_allocatable", node="gpu-0", resource="nvidia_com_gpu", unit="integer"): 2,
        KEDA.series("keda_build_info", version="2.20.2"): 1,
        keda("keda_scaler_metrics_value", "waiting"): waiting,
        keda("keda_scaler_metrics_value", "running"): ready * moment.running,
        **({pending: 1.0} if 57 <= moment.minute < 60 else {}),
    }
