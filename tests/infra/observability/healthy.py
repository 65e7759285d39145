"""A model that is well: two replicas under load, each on its GPU, as every exporter tells it."""

from infra.config.schema.objectives import Objectives
from infra.observability import ModelRules, PlatformRules
from infra.workload import Workload
from service import metric_names as names
from tests.infra.observability.scrape import KEDA, STATE, Scrape, dcgm, server

WORKLOAD = Workload(namespace="llm", name="chat", served_model="org/chat")
PODS = ("chat-6d5f7c9b8-abcde", "chat-6d5f7c9b8-fghij")
RUNBOOKS = "https://example.org/docs/runbooks/"
MINUTES = 400  # how long the series are
LABELS = {"model_name": "org/chat", "engine": "0"}


def rules(
    *, honor_labels: bool = True, min_replicas: int = 1, error_percent: float = 1.0, start_seconds: int = 600
) -> ModelRules:
    return ModelRules(
        workload=WORKLOAD,
        objectives=Objectives(first_token_seconds=2.5, inter_token_seconds=0.2, error_percent=error_percent),
        min_replicas=min_replicas,
        gpus=True,
        honor_labels=honor_labels,
        waiting_per_replica=5,
        running_per_replica=12,
        start_seconds=start_seconds,
        node_seconds=0,
        fallback_failures=3,
        runbooks=RUNBOOKS,
    )


PLATFORM = PlatformRules(gpus=True, runbooks=RUNBOOKS)


def always(value: float) -> str:
    return f"{value}x{MINUTES}"


def grows(per_minute: float, start: float = 0) -> str:
    return f"{start}+{per_minute}x{MINUTES}"


def then(*parts: tuple[float, int]) -> str:
    """A gauge that has each value for so many minutes."""
    return " ".join(f"{value}x{minutes - 1}" for value, minutes in parts)


def deployment(metric: str) -> str:
    return STATE.series(metric, namespace="llm", deployment="chat")


def autoscaler(metric: str, **labels: str) -> str:
    return STATE.series(metric, namespace="llm", horizontalpodautoscaler="keda-hpa-chat", **labels)


def ended(pod: str, reason: str) -> str:
    return server(pod).series("vllm:request_success_total", **LABELS, finished_reason=reason)


def of_pod(pod: str, metric: str, **labels: str) -> str:
    return server(pod).series(metric, **LABELS, **labels)


def gpu(metric: str, number: int, *, honor_labels: bool = True, **labels: str) -> str:
    return gpu_of(dcgm(honor_labels=honor_labels), metric, number, **labels)


def gpu_of(scrape: Scrape, metric: str, number: int, **labels: str) -> str:
    device = {"gpu": str(number), "UUID": f"GPU-{number}", "modelName": "NVIDIA H100 80GB HBM3", "Hostname": "gpu-1"}
    return scrape.series(metric, **device, namespace="llm", pod=PODS[number], container="server", **labels)


def keda(metric: str, trigger: str, **labels: str) -> str:
    index = {"waiting": "0", "running": "1"}[trigger]
    own = {"metric": f"s{index}-prometheus", "scaledObject": "chat", "scaler": trigger, "triggerIndex": index}
    return KEDA.series(metric, namespace="llm", type="scaledobject", **own, **labels)


def looks(trigger: str, status: str) -> str:
    own = {"scaled_resource": "chat", "trigger_name": trigger, "scaler": "prometheus", "metric_name": "s0-prometheus"}
    return KEDA.series("keda_scaler_http_requests_total", namespace="llm", status_code=status, **own)


def empty_answers(trigger: str) -> str:
    own = {"scaledResource": "chat", "triggerName": trigger, "metricName": "s0-prometheus"}
    return KEDA.series(
        "keda_scaler_empty_upstream_responses_total",
        namespace="llm",
        resourceType="ScaledObject",
        ignoreNullValues="false",
        **own,
    )


TAILS = {names.TIME_TO_FIRST_TOKEN: "10.0", names.INTER_TOKEN_LATENCY: "0.5"}  # the bucket that 99 % are promised in


def latency(pod: str, metric: str, bucket: str, *, within: float, late: float, far: float = 0) -> dict[str, str]:
    """So many observations a minute up to ``bucket`` seconds, so many above, and ``far`` of those beyond the promised tail."""
    return {
        of_pod(pod, f"{metric}_bucket", le=bucket): grows(within),
        of_pod(pod, f"{metric}_bucket", le=TAILS[metric]): grows(within + late - far),
        of_pod(pod, f"{metric}_bucket", le="+Inf"): grows(within + late),
        of_pod(pod, f"{metric}_count"): grows(within + late),
    }


def healthy(*, honor_labels: bool = True) -> dict[str, str]:
    """Every series that the rules look at, with its values minute by minute."""
    series = {
        deployment("kube_deployment_spec_replicas"): always(2),
        deployment("kube_deployment_status_replicas_available"): always(2),
        autoscaler("kube_horizontalpodautoscaler_status_desired_replicas"): always(2),
        autoscaler("kube_horizontalpodautoscaler_spec_max_replicas"): always(4),
        autoscaler("kube_horizontalpodautoscaler_status_condition", condition="ScalingActive", status="true"): always(
            1
        ),
        autoscaler("kube_horizontalpodautoscaler_status_condition", condition="ScalingActive", status="false"): always(
            0
        ),
        STATE.series("kube_node_status_allocatable", node="gpu-1", resource="nvidia_com_gpu", unit="integer"): always(
            2
        ),
        STATE.series("kube_node_status_allocatable", node="cpu-1", resource="cpu", unit="core"): always(8),
        KEDA.series("keda_build_info", version="2.20.2"): always(1),
    }
    for trigger in ("waiting", "running"):
        series |= {
            keda("keda_scaler_detail_errors_total", trigger): always(0),
            looks(trigger, "200"): grows(8),
        }
    for number, pod in enumerate(PODS):
        restarts = STATE.series(
            "kube_pod_container_status_restarts_total", namespace="llm", pod=pod, container="server", uid=str(number)
        )
        series |= {
            restarts: always(0),
            of_pod(pod, names.REQUESTS_WAITING): always(1),
            of_pod(pod, names.REQUESTS_RUNNING): always(8),
            of_pod(pod, names.KV_CACHE_USAGE): always(0.5),
            of_pod(pod, f"{names.PREEMPTIONS}_total"): always(0),
            ended(pod, "stop"): grows(60),
            ended(pod, "abort"): grows(30),
            ended(pod, "error"): always(0),
            **latency(pod, names.TIME_TO_FIRST_TOKEN, "2.5", within=60, late=1, far=0.5),
            **latency(pod, names.INTER_TOKEN_LATENCY, "0.2", within=6000, late=100, far=50),
            gpu("DCGM_FI_DEV_GPU_TEMP", number, honor_labels=honor_labels): always(70),
            gpu("DCGM_FI_DEV_FB_USED", number, honor_labels=honor_labels): always(73000),
            gpu("DCGM_FI_DEV_FB_FREE", number, honor_labels=honor_labels): always(8000),
        }
    return series
