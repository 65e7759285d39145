"""Every alert, firing and not firing, as promtool evaluates it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.observability.rules import AlertRule
from local.toolchain import Tools
from service import metric_names as names
from tests.infra.observability.healthy import (
    PLATFORM,
    PODS,
    TAILS,
    always,
    autoscaler,
    deployment,
    empty_answers,
    ended,
    gpu,
    grows,
    healthy,
    keda,
    latency,
    looks,
    of_pod,
    rules,
    then,
)
from tests.infra.observability.promtool import Expected, RuleTest, check
from tests.infra.observability.scrape import KEDA, STATE

MODEL = {"namespace": "llm", "service": "chat"}
Series = Mapping[str, str | None]  # None: not there

UNSCHEDULABLE = STATE.series("kube_pod_status_unschedulable", namespace="llm", pod="chat-6d5f7c9b8-klmno", uid="9")
OTHER_UNSCHEDULABLE = STATE.series(
    "kube_pod_status_unschedulable", namespace="llm", pod="chat-v2-6d5f7c9b8-klmno", uid="8"
)
RESTARTS = STATE.series(
    "kube_pod_container_status_restarts_total", namespace="llm", pod=PODS[0], container="server", uid="0"
)
DESIRED = autoscaler("kube_horizontalpodautoscaler_status_desired_replicas")
INACTIVE = autoscaler("kube_horizontalpodautoscaler_status_condition", condition="ScalingActive", status="false")
WANTED = deployment("kube_deployment_spec_replicas")
AVAILABLE = deployment("kube_deployment_status_replicas_available")
PAUSED = KEDA.series("keda_scaled_object_paused", namespace="llm", scaledObject="chat")
FIRST, BETWEEN = names.TIME_TO_FIRST_TOKEN, names.INTER_TOKEN_LATENCY


def on_all(values: str | None, metric: str) -> Series:
    return {of_pod(pod, metric): values for pod in PODS}


def failing(percent: float) -> Series:
    return {
        **{ended(pod, "error"): grows(0.6 * percent) for pod in PODS},
        **{ended(pod, "stop"): grows(60 - 0.6 * percent) for pod in PODS},
    }


def late(metric: str, bucket: str, percent: float, far: float = 0) -> Series:
    return {
        name: values
        for pod in PODS
        for name, values in latency(pod, metric, bucket, within=100 - percent, late=percent, far=far).items()
    }


def outage(start: int, end: int) -> Series:
    """Every request fails from one minute to another."""
    before, lasting = start, end - start
    return {
        **{ended(pod, "error"): f"0x{before - 1} 0+60x{lasting - 1} {60 * lasting}x300" for pod in PODS},
        **{ended(pod, "stop"): f"0+60x{before - 1} {60 * before}x{lasting - 1} {60 * before}+60x300" for pod in PODS},
    }


def gone(prefix: str) -> Series:
    return {name: None for name in healthy() if name.startswith(prefix)}


def blind(trigger: str) -> Series:
    """Prometheus answers, with nothing; after three errors the fallback answers and no error is counted any more."""
    return {
        empty_answers(trigger): f"_x29 {grows(8, start=1)}",
        keda("keda_scaler_detail_errors_total", trigger): f"0x29 3x{400}",
    }


Named = tuple[str, str]  # an alert and its severity


@dataclass(frozen=True)
class Quiet:
    """What must not make the alert fire; others may."""

    changes: Series
    others: tuple[Named, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Case:
    """What makes an alert fire, at which minute, what it says, and what fires beside it; and what must not make it fire."""

    alert: str
    severity: str
    fires: Series
    minute: int
    says: str
    quiet: tuple[Quiet, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    also: tuple[Named, ...] = ()


FAST, SLOW = "page", "ticket"
FEW: Series = {ended(pod, "stop"): grows(0.7) for pod in PODS}
CASES = (
    Case(
        alert="LlmErrorBudgetBurn",
        severity=FAST,
        fires=failing(20),
        minute=120,
        says="20% of the requests failed; 1 % may. At this speed the budget of 30 days does not last.",
        labels={"objective": "errors"},
        also=(("LlmErrorBudgetBurn", SLOW),),
        quiet=(
            Quiet(failing(0.5)),
            # Four failed of eight in all: too few to wake anybody.
            Quiet({ended(pod, reason): f"0x100 2x{300}" for pod in PODS for reason in ("error", "stop")}),
            # A client that leaves is no failure of the server.
            Quiet({ended(pod, "abort"): grows(600) for pod in PODS}),
            # Everything failed for four minutes just now: of two hours that is more than was promised, and no emergency.
            Quiet(outage(116, 130), (("LlmErrorBudgetBurn", SLOW),)),
            # It was bad, and is over.
            Quiet(outage(60, 85), (("LlmErrorBudgetBurn", SLOW),)),
        ),
    ),
    Case(
        alert="LlmErrorBudgetBurn",
        severity=SLOW,
        fires=failing(4),
        minute=150,
        says="4% of the requests failed; 1 % may. At this speed the budget of 30 days does not last.",
        labels={"objective": "errors"},
        quiet=(Quiet(failing(0.9)),),
    ),
    Case(
        alert="LlmFirstTokenBudgetBurn",
        severity=FAST,
        fires=late(FIRST, "2.5", 80),
        minute=90,
        says="80% of the answers took longer than 2.5 s to begin; 5 % may. At this speed the budget of 30 days does not last.",
        labels={"objective": "first-token"},
        also=(("LlmFirstTokenBudgetBurn", SLOW), ("LlmFirstTokenSlow", SLOW)),
        quiet=(Quiet(late(FIRST, "2.5", 4)),),
    ),
    Case(
        alert="LlmFirstTokenBudgetBurn",
        severity=SLOW,
        fires=late(FIRST, "2.5", 20),
        minute=150,
        says="20% of the answers took longer than 2.5 s to begin; 5 % may. At this speed the budget of 30 days does not last.",
        labels={"objective": "first-token"},
        also=(("LlmFirstTokenSlow", SLOW),),
        quiet=(Quiet(late(FIRST, "2.5", 4)),),
    ),
    Case(
        alert="LlmFirstTokenSlow",
        severity=SLOW,
        # After four good hours: too late for a promise of five per cent, and not yet a dent in the budget.
        fires={
            name: values
            for pod in PODS
            for name, values in {
                of_pod(pod, f"{FIRST}_bucket", le="2.5"): f"0+100x239 24000+90x{160}",
                of_pod(pod, f"{FIRST}_bucket", le=TAILS[FIRST]): grows(100),
                of_pod(pod, f"{FIRST}_count"): grows(100),
            }.items()
        },
        minute=255,
        says="10% of the answers took longer than 2.5 s to begin in the last 5 minutes; 5 % may.",
        labels={"objective": "first-token"},
        quiet=(Quiet(late(FIRST, "2.5", 4)),),
    ),
    Case(
        alert="LlmInterTokenSlow",
        severity=SLOW,
        fires={
            name: values
            for pod in PODS
            for name, values in {
                of_pod(pod, f"{BETWEEN}_bucket", le="0.2"): f"0+100x239 24000+90x{160}",
                of_pod(pod, f"{BETWEEN}_bucket", le=TAILS[BETWEEN]): grows(100),
                of_pod(pod, f"{BETWEEN}_count"): grows(100),
            }.items()
        },
        minute=255,
        says="10% of the tokens came later than 0.2 s after the one before in the last 5 minutes; 5 % may.",
        labels={"objective": "inter-token"},
        quiet=(Quiet(late(BETWEEN, "0.2", 4)),),
    ),
    Case(
        alert="LlmInterTokenBudgetBurn",
        severity=FAST,
        fires=late(BETWEEN, "0.2", 80),
        minute=90,
        says="80% of the tokens came later than 0.2 s after the one before; 5 % may. At this speed the budget of 30 days "
        "does not last.",
        labels={"objective": "inter-token"},
        also=(("LlmInterTokenBudgetBurn", SLOW), ("LlmInterTokenSlow", SLOW)),
        quiet=(Quiet(late(BETWEEN, "0.2", 4)),),
    ),
    Case(
        alert="LlmInterTokenBudgetBurn",
        severity=SLOW,
        fires=late(BETWEEN, "0.2", 20),
        minute=150,
        says="20% of the tokens came later than 0.2 s after the one before; 5 % may. At this speed the budget of 30 days "
        "does not last.",
        labels={"objective": "inter-token"},
        also=(("LlmInterTokenSlow", SLOW),),
        quiet=(Quiet(late(BETWEEN, "0.2", 4)),),
    ),
    Case(
        alert="LlmFirstTokenP99Slow",
        severity=SLOW,
        fires=late(FIRST, "2.5", 4, far=2),
        minute=90,
        says="2% of the answers took longer than 10 s to begin in the last 5 minutes; 1 % may.",
        labels={"objective": "first-token-p99"},
        # Of fewer than a hundred in an hour, one is more than one per cent.
        quiet=(Quiet(late(FIRST, "2.5", 4, far=0.8)), Quiet({**late(FIRST, "2.5", 4, far=2), **FEW})),
    ),
    Case(
        alert="LlmInterTokenP99Slow",
        severity=SLOW,
        fires=late(BETWEEN, "0.2", 4, far=2),
        minute=90,
        says="2% of the tokens came later than 0.5 s after the one before in the last 5 minutes; 1 % may.",
        labels={"objective": "inter-token-p99"},
        quiet=(Quiet(late(BETWEEN, "0.2", 4, far=0.8)), Quiet({**late(BETWEEN, "0.2", 4, far=2), **FEW})),
    ),
    Case(
        alert="LlmDown",
        severity="page",
        fires={AVAILABLE: then((2, 60), (0, 300)), **on_all("1x59 stale", names.REQUESTS_RUNNING)},
        minute=66,
        says="No replica is ready. Every request fails.",
        quiet=(Quiet({AVAILABLE: then((2, 60), (0, 4), (1, 300))}),),
    ),
    Case(
        alert="LlmReplicasMissing",
        severity="ticket",
        fires={WANTED: always(3)},
        minute=20,
        says="1 replicas are not ready, longer than a start takes.",
        quiet=(Quiet({WANTED: then((2, 10), (3, 300)), AVAILABLE: then((2, 18), (3, 300))}),),
    ),
    Case(
        alert="LlmPodsUnschedulable",
        severity="ticket",
        fires={UNSCHEDULABLE: always(1)},
        minute=10,
        says="1 pods wait for a node, longer than a new one takes.",
        # Another model's pod whose name begins alike; one that waited for two minutes.
        quiet=(Quiet({OTHER_UNSCHEDULABLE: always(1)}), Quiet({UNSCHEDULABLE: "_x7 1x1 stale"})),
    ),
    Case(
        alert="LlmPodsRestarting",
        severity="ticket",
        fires={RESTARTS: then((0, 10), (1, 10), (2, 10), (3, 300))},
        minute=50,
        says="About 3 restarts in the last hour; each cuts the answers of its replica.",
        quiet=(Quiet({RESTARTS: then((0, 10), (1, 300))}),),
    ),
    Case(
        alert="LlmTargetsAbsent",
        severity="page",
        fires=gone("vllm:"),
        minute=30,
        says="2 replicas are ready, and fewer are scraped.",
        quiet=(Quiet({AVAILABLE: then((2, 20), (3, 9), (2, 300)), WANTED: always(2)}),),
    ),
    Case(
        alert="LlmQueueLong",
        severity="ticket",
        fires=on_all(always(12), names.REQUESTS_WAITING),
        minute=30,
        says="12.0 requests wait for each replica; the autoscaler aims at 5, and a new replica would be there by now.",
        quiet=(
            Quiet(on_all(always(6), names.REQUESTS_WAITING)),
            Quiet(on_all(then((1, 20), (30, 9), (1, 300)), names.REQUESTS_WAITING)),
        ),
    ),
    Case(
        alert="LlmKvCacheFull",
        severity="ticket",
        fires={of_pod(PODS[1], names.KV_CACHE_USAGE): always(0.98)},
        minute=30,
        says="98% of the KV cache of the fullest replica are in use.",
        quiet=(Quiet({of_pod(PODS[1], names.KV_CACHE_USAGE): then((0.5, 10), (1, 10), (0.5, 300))}),),
    ),
    Case(
        alert="LlmPreemptions",
        severity="ticket",
        fires={of_pod(PODS[0], f"{names.PREEMPTIONS}_total"): grows(24)},
        minute=60,
        says="0.20 preemptions for each request that ended.",
        quiet=(Quiet({of_pod(PODS[0], f"{names.PREEMPTIONS}_total"): grows(1)}),),
    ),
    Case(
        alert="LlmGpuMemoryFull",
        severity="ticket",
        fires={gpu("DCGM_FI_DEV_FB_USED", 1): always(80900), gpu("DCGM_FI_DEV_FB_FREE", 1): always(100)},
        minute=20,
        says="99.88% of the fullest GPU's memory are in use; the server may end out of memory.",
        quiet=(Quiet({gpu("DCGM_FI_DEV_FB_USED", 1): always(76000), gpu("DCGM_FI_DEV_FB_FREE", 1): always(5000)}),),
    ),
    Case(
        alert="LlmAtMaximum",
        severity="ticket",
        fires={DESIRED: always(4), **on_all(always(8), names.REQUESTS_WAITING)},
        minute=14,
        says="All 4 replicas that max_replicas allows are wanted, and requests still wait.",
        quiet=(Quiet({DESIRED: always(4)}), Quiet(on_all(always(8), names.REQUESTS_WAITING))),
    ),
    Case(
        alert="LlmAutoscalerInactive",
        severity="ticket",
        fires={INACTIVE: always(1)},
        minute=20,
        says="The HorizontalPodAutoscaler gets no metric and leaves the replicas as they are.",
        quiet=(Quiet({INACTIVE: then((0, 10), (1, 5), (0, 300))}),),
    ),
    Case(
        alert="LlmAutoscalerPaused",
        severity="ticket",
        # KEDA takes the HorizontalPodAutoscaler away meanwhile.
        fires={PAUSED: always(1), DESIRED: None, INACTIVE: None},
        minute=70,
        says="An annotation of the ScaledObject pauses it: load brings no more replicas.",
        quiet=(Quiet({PAUSED: then((1, 30), (0, 300))}),),
    ),
    Case(
        alert="LlmScalerErrors",
        severity="ticket",
        fires={keda("keda_scaler_detail_errors_total", "waiting"): then((0, 20), (3, 300))},
        minute=25,
        says="KEDA failed to read waiting 3 times in 15 minutes.",
        labels={"scaler": "waiting"},
        quiet=(Quiet({keda("keda_scaler_detail_errors_total", "waiting"): then((0, 20), (1, 300))}),),
    ),
    Case(
        alert="LlmScalerEmptyAnswers",
        severity="ticket",
        fires=blind("running"),
        minute=37,
        says="Prometheus answers KEDA's query for running with nothing.",
        labels={"scaler": "running"},
        also=(("LlmScalerErrors", "ticket"),),
        quiet=(Quiet({empty_answers("running"): f"_x9 1x{300}"}),),
    ),
    Case(
        alert="LlmFallbackActive",
        severity="ticket",
        fires=blind("running"),
        minute=60,
        says="100% of KEDA's queries for running fail, and its fallback answers instead: more load brings no more replicas.",
        labels={"scaler": "running"},
        also=(("LlmScalerEmptyAnswers", "ticket"),),
        # Errors that are counted are answered by nobody; single failures among good answers are no fallback.
        quiet=(
            Quiet(
                {empty_answers("running"): grows(8), keda("keda_scaler_detail_errors_total", "running"): grows(4)},
                (("LlmScalerEmptyAnswers", "ticket"), ("LlmScalerErrors", "ticket")),
            ),
            Quiet({looks("running", "503"): grows(1)}),
        ),
    ),
    Case(
        alert="LlmKedaAbsent",
        severity="page",
        fires=gone("keda_"),
        minute=15,
        says="Nobody adds replicas when load comes, and no alert about autoscaling can be trusted.",
        quiet=(Quiet({KEDA.series("keda_build_info", version="2.20.2"): "1x10 _x8 1x200"}),),
    ),
    Case(
        alert="LlmKubeStateMetricsAbsent",
        severity="page",
        fires=gone("kube_"),
        minute=15,
        says="Models that are down or starved of GPUs would not be told.",
        quiet=(Quiet({WANTED: "2x3 _x8 2x200"}),),
    ),
    Case(
        alert="LlmGpuMetricsAbsent",
        severity="ticket",
        fires=gone("DCGM_"),
        minute=20,
        says="1 nodes offer GPUs, and fewer exporters are scraped.",
        # A node without a GPU needs no exporter.
        quiet=(
            Quiet({STATE.series("kube_node_status_allocatable", node="cpu-2", resource="cpu", unit="core"): always(8)}),
        ),
    ),
    Case(
        alert="LlmGpuTooHot",
        severity="ticket",
        fires={gpu("DCGM_FI_DEV_GPU_TEMP", 0): always(91)},
        minute=15,
        says="GPU 0 (NVIDIA H100 80GB HBM3, GPU-0) of node gpu-1 has 91 degrees Celsius.",
        labels={"gpu": "0", "UUID": "GPU-0", "modelName": "NVIDIA H100 80GB HBM3", "Hostname": "gpu-1"},
        quiet=(Quiet({gpu("DCGM_FI_DEV_GPU_TEMP", 0): then((70, 5), (91, 8), (70, 300))}),),
    ),
    Case(
        alert="LlmGpuXid",
        severity="ticket",
        fires={gpu("DCGM_FI_DEV_XID_ERRORS", 0, err_code="79", err_msg="GPU has fallen off the bus"): "_x50 79x300"},
        minute=60,
        says="GPU 0 (NVIDIA H100 80GB HBM3, GPU-0) of node gpu-1 reported XID 79 (GPU has fallen off the bus).",
        labels={
            "gpu": "0",
            "UUID": "GPU-0",
            "modelName": "NVIDIA H100 80GB HBM3",
            "Hostname": "gpu-1",
            "err_code": "79",
            "err_msg": "GPU has fallen off the bus",
        },
        quiet=(
            Quiet({gpu("DCGM_FI_DEV_XID_ERRORS", 0, err_code="0", err_msg="No Error"): always(0)}),
            # The code stays for ever: an old one is no news.
            Quiet({gpu("DCGM_FI_DEV_XID_ERRORS", 0, err_code="79", err_msg="GPU has fallen off the bus"): always(79)}),
        ),
    ),
)


def with_changes(changes: Series, base: Mapping[str, str]) -> dict[str, str]:
    return {name: values for name, values in {**base, **changes}.items() if values is not None}


def rule(name: str, severity: str) -> AlertRule:
    groups = (*rules().groups, *PLATFORM.groups)
    (found,) = [alert for group in groups for alert in group.alerts if (alert.name, alert.severity) == (name, severity)]
    return found


SPECS = (rules().to_spec(), PLATFORM.to_spec())


@pytest.mark.engine
def test_nothing_fires_while_all_is_well(tools: Tools, tmp_path: Path) -> None:
    tests = [RuleTest(series=healthy(), minute=minute) for minute in (5, 60, 360)]
    check(tools, tmp_path, SPECS, tests)


@pytest.mark.engine
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{case.severity}")
def test_an_alert_fires_when_it_should_and_only_then(tools: Tools, tmp_path: Path, case: Case) -> None:
    alert = rule(case.alert, case.severity)
    model = MODEL if alert.labels else {}
    told = Expected(
        name=alert.name,
        labels={**model, **case.labels, "severity": alert.severity},
        annotations={
            "summary": alert.summary,
            "description": case.says,
            "runbook_url": f"https://example.org/docs/runbooks/{alert.name}.md",
        },
    )
    others = [
        Expected(
            name=alert.name,
            labels={**model, **case.labels, "severity": severity},
            annotations={**told.annotations, "summary": rule(name, severity).summary},
        )
        for name, severity in case.also
        if name == alert.name
    ]
    firing = RuleTest(
        series=with_changes(case.fires, healthy()),
        minute=case.minute,
        firing=[(case.alert, case.severity), *case.also],
        told=[told, *others],
    )
    quiet = [
        RuleTest(series=with_changes(quiet.changes, healthy()), minute=case.minute, firing=quiet.others)
        for quiet in case.quiet
    ]
    check(tools, tmp_path, SPECS, [firing, *quiet])


def test_every_alert_has_a_case() -> None:
    alerts = {(alert.name, alert.severity) for group in (*rules().groups, *PLATFORM.groups) for alert in group.alerts}
    assert alerts == {(case.alert, case.severity) for case in CASES}


@pytest.mark.engine
def test_a_deployment_that_is_gone_is_down(tools: Tools, tmp_path: Path) -> None:
    own = {AVAILABLE: None, WANTED: None, **gone("vllm:")}
    other = {
        STATE.series(metric, namespace="other", deployment="web"): always(1)
        for metric in ("kube_deployment_spec_replicas", "kube_deployment_status_replicas_available")
    }
    series = {**with_changes(own, healthy()), **other}
    check(tools, tmp_path, SPECS, [RuleTest(series=series, minute=20, firing=[("LlmDown", "page")])])


ASLEEP: Series = {
    WANTED: always(0),
    AVAILABLE: always(0),
    DESIRED: always(0),
    INACTIVE: always(1),
    **gone("vllm:"),
    **{empty_answers(trigger): grows(16) for trigger in ("waiting", "running")},
}


@pytest.mark.engine
def test_a_model_that_may_sleep_is_not_missed_until_it_is_wanted(tools: Tools, tmp_path: Path) -> None:
    may_sleep = (rules(min_replicas=0).to_spec(), PLATFORM.to_spec())
    wanted = {**ASLEEP, WANTED: then((0, 30), (1, 300)), AVAILABLE: always(0), INACTIVE: then((1, 30), (0, 300))}
    starting = RuleTest(series=with_changes(wanted, healthy()), minute=39)
    never = RuleTest(
        series=with_changes(wanted, healthy()),
        minute=50,
        firing=[
            ("LlmDown", "page"),
            ("LlmFallbackActive", "ticket"),
            ("LlmReplicasMissing", "ticket"),
            ("LlmScalerEmptyAnswers", "ticket"),
        ],
    )
    check(tools, tmp_path, may_sleep, [RuleTest(series=with_changes(ASLEEP, healthy()), minute=60), starting, never])


@pytest.mark.engine
def test_looks_that_fail_while_a_model_wakes_are_no_errors_and_those_with_replicas_are(
    tools: Tools, tmp_path: Path
) -> None:
    may_sleep = (rules(min_replicas=0).to_spec(), PLATFORM.to_spec())
    wakes = {
        **ASLEEP,
        WANTED: then((0, 30), (1, 300)),
        AVAILABLE: then((0, 38), (1, 300)),
        INACTIVE: then((1, 30), (0, 300)),
        **{empty_answers(trigger): f"_x29 1+16x8 {1 + 16 * 8}x300" for trigger in ("waiting", "running")},
        **{
            keda("keda_scaler_detail_errors_total", trigger): then((0, 31), (2, 1), (3, 300))
            for trigger in ("waiting", "running")
        },
    }
    waking = [RuleTest(series=with_changes(wakes, healthy()), minute=minute) for minute in (33, 40, 46)]
    fails = {keda("keda_scaler_detail_errors_total", "waiting"): then((0, 20), (3, 300))}
    failing = RuleTest(series=with_changes(fails, healthy()), minute=25, firing=[("LlmScalerErrors", "ticket")])
    check(tools, tmp_path, may_sleep, [*waking, failing])


@pytest.mark.engine
def test_gpus_are_found_under_the_labels_of_the_charts_default_scrape(tools: Tools, tmp_path: Path) -> None:
    full = {
        gpu("DCGM_FI_DEV_FB_USED", 1, honor_labels=False): always(80900),
        gpu("DCGM_FI_DEV_FB_FREE", 1, honor_labels=False): always(100),
    }
    series = {**healthy(honor_labels=False), **full}
    fires = RuleTest(series=series, minute=20, firing=[("LlmGpuMemoryFull", "ticket")])
    check(tools, tmp_path, (rules(honor_labels=False).to_spec(), PLATFORM.to_spec()), [fires])


@pytest.mark.engine
def test_keda_is_found_where_its_scrape_keeps_its_labels(tools: Tools, tmp_path: Path) -> None:
    honored = {
        name.replace('namespace="keda",', "").replace("exported_namespace", "namespace"): values
        for name, values in with_changes(blind("running"), healthy()).items()
    }
    fires = RuleTest(
        series=honored, minute=60, firing=[("LlmFallbackActive", "ticket"), ("LlmScalerEmptyAnswers", "ticket")]
    )
    check(tools, tmp_path, SPECS, [fires])


@pytest.mark.engine
def test_somebody_is_woken_however_generous_the_promise(tools: Tools, tmp_path: Path) -> None:
    generous = (rules(error_percent=50).to_spec(), PLATFORM.to_spec())
    burns = [("LlmErrorBudgetBurn", "page"), ("LlmErrorBudgetBurn", "ticket")]
    check(
        tools,
        tmp_path,
        generous,
        [
            RuleTest(series=with_changes(failing(45), healthy()), minute=120),
            RuleTest(series=with_changes(failing(90), healthy()), minute=120, firing=burns),
        ],
    )
