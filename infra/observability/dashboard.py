"""One Grafana dashboard for every model: what was asked for, what was served, and what decided the replicas.

The JSON depends on nothing but the arguments, so that it shows no difference between two runs.
"""

from dataclasses import dataclass

from infra.observability import keda, model, platform, slo
from infra.observability.grafana import Panel, Query, Row, Variable, dashboard_json
from infra.series import ModelSeries
from service.metric_names import (
    FINISHED_REASON_LABEL,
    GENERATION_TOKENS,
    INTER_TOKEN_LATENCY,
    KV_CACHE_USAGE,
    PREEMPTIONS,
    PREFIX_CACHE_HITS,
    PREFIX_CACHE_QUERIES,
    PROMPT_TOKENS,
    QUEUE_TIME,
    REQUEST_LATENCY,
    REQUEST_SUCCESS,
    REQUESTS_RUNNING,
    REQUESTS_WAITING,
    TIME_TO_FIRST_TOKEN,
)

# Grafana's sidecar takes ConfigMaps with exactly this label, and says nothing of others (kube-prometheus-stack's default).
DASHBOARD_LABELS = {"grafana_dashboard": "1"}
UID = "llm-stack"
# Grafana's variable: at least four scrapes wide, whatever the zoom.
WINDOW = "$__rate_interval"


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """``gpus``: whether GPUs are watched by the DCGM exporter; ``honor_labels``: as in that exporter's scrape."""

    gpus: bool
    honor_labels: bool

    def to_json(self) -> str:
        return dashboard_json(uid=UID, title="Language models", variables=VARIABLES, rows=self.rows)

    def config_map_data(self) -> dict[str, str]:
        """The data of the ConfigMap; it needs :data:`DASHBOARD_LABELS`."""
        return {f"{UID}.json": self.to_json()}

    @property
    def rows(self) -> tuple[Row, ...]:
        # Grafana puts the chosen values in; the name of a model is that of its Deployment, Service and ScaledObject.
        series = ModelSeries(namespace="$namespace", name="${model}", honor_labels=self.honor_labels)
        rows = (_promises(series), _replicas(series), _latency(series), _work(series), _health(series))
        return (*rows, _gpus(series)) if self.gpus else rows


VARIABLES = (
    Variable(name="datasource", label="Prometheus"),
    Variable(name="namespace", label="Namespace", query=f"label_values({REQUESTS_RUNNING}, namespace)"),
    Variable(name="model", label="Model", query=f'label_values({REQUESTS_RUNNING}{{namespace="$namespace"}}, service)'),
)


def _promises(series: ModelSeries) -> Row:
    def kept(title: str, objective: str, promised: str) -> Panel:
        missed = series.server(f"{slo.MISSED}1h", objective=objective)
        return Panel(
            title=title,
            description=f"Share of the last hour that was within the objective ({promised}).",
            queries=(Query(expression=f"1 - {missed}", legend="kept"),),
            unit="percentunit",
            kind="stat",
            width=4,
            warn=1 - slo.LATENCY_BUDGET,
            warn_below=True,
        )

    firing = f"count({series.server('ALERTS', alertstate='firing')}) or vector(0)"
    return Row(
        title="Promises",
        panels=(
            _number("Alerts", "Alerts of this model that fire now.", firing, warn=1),
            kept("First token in time", "first-token", "models.<name>.objectives.first_token_seconds"),
            kept("Tokens in time", "inter-token", "models.<name>.objectives.inter_token_seconds"),
            Panel(
                title="Failed requests",
                description="Share of the requests of the last hour that failed; those whose client left do not count.",
                queries=(Query(expression=series.server(f"{slo.MISSED}1h", objective="errors"), legend="failed"),),
                unit="percentunit",
                kind="stat",
                width=4,
            ),
            _number("Ready replicas", "Replicas that serve now.", _ready(series), warn=1, warn_below=True),
            _number("Waiting requests", "Requests that wait now.", f"sum({series.server(REQUESTS_WAITING)})"),
        ),
    )


def _number(
    title: str, description: str, expression: str, *, warn: float | None = None, warn_below: bool = False
) -> Panel:
    queries = (Query(expression=expression, legend=title),)
    return Panel(
        title=title, description=description, queries=queries, kind="stat", width=4, warn=warn, warn_below=warn_below
    )


def _ready(series: ModelSeries) -> str:
    return f"sum({series.deployment('kube_deployment_status_replicas_available')})"


def _replicas(series: ModelSeries) -> Row:
    def requests(title: str, metric: str, signal: str) -> Panel:
        target = f"sum({series.server(model.TARGET, signal=signal)}) * {_ready(series)}"
        return Panel(
            title=title,
            description="Over all replicas. Above the target, which grows with the ready replicas, one more is wanted.",
            queries=(
                Query(expression=f"sum({series.server(metric)})", legend=signal),
                Query(expression=target, legend="target", limit=True),
            ),
        )

    most = series.autoscaler("kube_horizontalpodautoscaler_spec_max_replicas")
    return Row(
        title="Load and replicas",
        panels=(
            Panel(
                title="Replicas",
                description="Wanted by the autoscaler, ready to serve, and allowed at most.",
                queries=(
                    Query(expression=f"sum({series.deployment('kube_deployment_spec_replicas')})", legend="wanted"),
                    Query(expression=_ready(series), legend="ready"),
                    Query(expression=f"max({most})", legend="maximum", limit=True),
                ),
            ),
            requests("Waiting requests", REQUESTS_WAITING, "waiting"),
            requests("Running requests", REQUESTS_RUNNING, "running"),
        ),
    )


def _latency(series: ModelSeries) -> Row:
    def quantile(metric: str, share: float) -> str:
        buckets = series.server(f"{metric}_bucket")
        return f"histogram_quantile({share:g}, sum by (le) (rate({buckets}[{WINDOW}])))"

    def quantiles(metric: str) -> tuple[Query, ...]:
        return tuple(Query(expression=quantile(metric, p / 100), legend=f"P{p}") for p in (50, 95, 99))

    def promised(title: str, description: str, metric: str, objective: str) -> Panel:
        limits = (
            Query(
                expression=f"max({series.server(model.OBJECTIVE, objective=name)})",
                legend=f"objective of {share}",
                limit=True,
            )
            for name, share in ((objective, "P95"), (f"{objective}-p99", "P99"))
        )
        return Panel(title=title, description=description, queries=(*quantiles(metric), *limits), unit="s")

    queue = Query(expression=quantile(QUEUE_TIME, 0.95), legend="P95 of the queue")
    return Row(
        title="What users wait for",
        panels=(
            promised("Time to first token", "From arrival to the first token.", TIME_TO_FIRST_TOKEN, "first-token"),
            promised(
                "Time between tokens", "From one token of an answer to the next.", INTER_TOKEN_LATENCY, "inter-token"
            ),
            Panel(
                title="Whole answer",
                description="From arrival to the last token, and how much of it was spent in the queue.",
                queries=(*quantiles(REQUEST_LATENCY), queue),
                unit="s",
            ),
        ),
    )


def _work(series: ModelSeries) -> Row:
    def rate(metric: str) -> str:
        return f"sum(rate({series.server(f'{metric}_total')}[{WINDOW}]))"

    ended = f"sum by ({FINISHED_REASON_LABEL}) (rate({series.server(f'{REQUEST_SUCCESS}_total')}[{WINDOW}]))"
    cache = series.server(KV_CACHE_USAGE)
    return Row(
        title="What is done",
        panels=(
            Panel(
                title="Tokens per second",
                description="Prompt tokens that were read and tokens that were generated, over all replicas.",
                queries=(
                    Query(expression=rate(PROMPT_TOKENS), legend="prompt"),
                    Query(expression=rate(GENERATION_TOKENS), legend="generated"),
                ),
                width=6,
            ),
            Panel(
                title="Requests per second, by how they ended",
                description="stop and length are whole answers; abort: the client left, or the server ended it; error: failed.",
                queries=(Query(expression=ended, legend=f"{{{{{FINISHED_REASON_LABEL}}}}}"),),
                unit="reqps",
                width=6,
                stacked=True,
            ),
            Panel(
                title="KV cache",
                description="Share in use, of the fullest replica and on average. Near 100 % requests wait or are preempted.",
                queries=(
                    Query(expression=f"max({cache})", legend="fullest"),
                    Query(expression=f"avg({cache})", legend="average"),
                    Query(expression=f"vector({model.KV_CACHE_FULL})", legend="full", limit=True),
                ),
                unit="percentunit",
                width=6,
                most=1,
            ),
            Panel(
                title="Prefix cache and preemptions",
                description="Share of the looked-up prompt tokens that were cached, and preemptions per request that ended.",
                queries=(
                    Query(expression=f"{rate(PREFIX_CACHE_HITS)} / {rate(PREFIX_CACHE_QUERIES)}", legend="cached"),
                    Query(expression=f"{rate(PREEMPTIONS)} / {rate(REQUEST_SUCCESS)}", legend="preempted"),
                ),
                unit="percentunit",
                width=6,
            ),
        ),
    )


def _health(series: ModelSeries) -> Row:
    active = series.autoscaler(
        "kube_horizontalpodautoscaler_status_condition", condition="ScalingActive", status="true"
    )
    pending = series.pod("kube_pod_status_unschedulable")
    restarts = series.pod("kube_pod_container_status_restarts_total")
    return Row(
        title="Autoscaler and pods",
        panels=(
            Panel(
                title="What KEDA reads",
                description="The value of each signal as the autoscaler gets it, that of the fallback while it answers.",
                queries=(Query(expression=f"max by (scaler) ({keda.value(series)})", legend="{{scaler}}"),),
            ),
            Panel(
                title="KEDA's queries per minute",
                description="Answers by HTTP status, empty ones, and errors. While the fallback answers no error is counted.",
                queries=(
                    Query(
                        expression=f"60 * sum by (status_code) ({keda.queries(series, 'rate', WINDOW)})",
                        legend="status {{status_code}}",
                    ),
                    Query(expression=f"60 * sum({keda.empty(series, 'rate', WINDOW)})", legend="empty"),
                    Query(expression=f"60 * sum({keda.errors(series, 'rate', WINDOW)})", legend="errors"),
                ),
            ),
            Panel(
                title="Autoscaler and pods",
                description="1 while the autoscaler can compute, and while KEDA's fallback answers it; pods that find no node; "
                "restarts of containers.",
                queries=(
                    Query(expression=f"max({active})", legend="autoscaler active"),
                    Query(expression=f"max({keda.fallback(series)})", legend="fallback"),
                    Query(expression=f"sum({pending}) or vector(0)", legend="pods without node"),
                    Query(expression=f"sum(increase({restarts}[{WINDOW}]))", legend="restarts"),
                ),
            ),
        ),
    )


def _gpus(series: ModelSeries) -> Row:
    by = f"max by ({series.gpu_pod}, gpu)"
    legend = f"{{{{{series.gpu_pod}}}}} / {{{{gpu}}}}"
    used, free = series.gpu("DCGM_FI_DEV_FB_USED"), series.gpu("DCGM_FI_DEV_FB_FREE")
    # Slices of a GPU have no utilisation, but the share of time in which their engine was active.
    busy = f"{by} ({series.gpu('DCGM_FI_DEV_GPU_UTIL')}) or 100 * {by} ({series.gpu('DCGM_FI_PROF_GR_ENGINE_ACTIVE')})"
    return Row(
        title="GPUs",
        panels=(
            Panel(
                title="GPU utilisation",
                description="Share of the time in which anything ran: 100 % with a single request, so no measure of load.",
                queries=(Query(expression=busy, legend=legend),),
                unit="percent",
                most=100,
            ),
            Panel(
                title="GPU memory",
                description="Share in use. Servers take most of it when they start.",
                queries=(
                    Query(expression=f"{by} ({used} / ({used} + {free}))", legend=legend),
                    Query(expression=f"vector({model.GPU_MEMORY_FULL})", legend="full", limit=True),
                ),
                unit="percentunit",
                most=1,
            ),
            Panel(
                title="GPU temperature",
                description="Above the line a GPU soon slows down.",
                queries=(
                    Query(expression=f"{by} ({series.gpu('DCGM_FI_DEV_GPU_TEMP')})", legend=legend),
                    Query(expression=f"vector({platform.HOT})", legend="hot", limit=True),
                ),
                unit="celsius",
            ),
        ),
    )
