"""The rules as the Prometheus operator gets them, and the promises that they are made from."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.config.schema.objectives import Objectives
from infra.observability import slo
from infra.series import ModelSeries
from infra.wire import JsonObject
from infra.workload import Workload
from local.toolchain import Tools
from service.metric_names import FIRST_TOKEN_BUCKETS, INTER_TOKEN_BUCKETS, INTER_TOKEN_LATENCY, TIME_TO_FIRST_TOKEN
from service.metrics import Metrics
from tests.infra.observability.healthy import PLATFORM, rules
from tests.infra.observability.names import metrics_in, unknown
from tests.infra.observability.promtool import run

SPECS = {"model": rules().to_spec(), "sleeper": rules(min_replicas=0).to_spec(), "platform": PLATFORM.to_spec()}
NO_TAILS = Objectives(first_token_p99_seconds=None, inter_token_p99_seconds=None)
SERIES = ModelSeries(namespace="llm", name="chat", honor_labels=True)


@pytest.mark.engine
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_spec_is_valid_and_promtool_has_nothing_to_say(
    tools: Tools, crd_schema: Callable[[str], dict[str, Any]], tmp_path: Path, spec: JsonObject
) -> None:
    schema = crd_schema("monitoring.coreos.com_prometheusrules")["properties"]["spec"]
    # One of its patterns is of Go's kind, so that the schema itself would not pass; keys that do not exist promtool refuses.
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(spec)) == []
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps(spec))
    run(tools, "check", "rules", "--lint=all", "--lint-fatal", str(file))


def test_rules_use_only_metrics_and_labels_that_exist() -> None:
    recorded = {rule["record"] for spec in SPECS.values() for rule in _rules(spec) if "record" in rule}
    expressions = [str(rule["expr"]) for spec in SPECS.values() for rule in _rules(spec)]
    assert len(metrics_in(expressions)) > 20
    assert unknown(expressions, recorded) == set()


def test_names_of_groups_tell_models_apart() -> None:
    names = [group.name for group in (*rules().groups, *PLATFORM.groups)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("seconds", "near"),
    [(2.5, (2.5,)), (2.0, (1.0, 2.5)), (0.0001, (0.001,)), (5000, (2560.0,)), (1, (1,))],
)
def test_buckets_next_to_a_number(seconds: float, near: tuple[float, ...]) -> None:
    assert slo.near_buckets(seconds, FIRST_TOKEN_BUCKETS) == near


@pytest.mark.parametrize(
    ("promised", "message"),
    [
        ({"first_token_seconds": 2.0}, "first_token_seconds = 2.0.*use 1.0 or 2.5"),
        ({"inter_token_seconds": 0.12}, "inter_token_seconds = 0.12.*use 0.1 or 0.15"),
        ({"first_token_p99_seconds": 11}, "first_token_p99_seconds = 11.*use 10.0 or 20.0"),
    ],
)
def test_a_promise_between_two_buckets_is_refused(promised: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        slo.objectives(Objectives(**promised), SERIES)


def test_a_tail_that_is_not_promised_is_not_watched() -> None:
    names = {promise.name for promise in slo.objectives(NO_TAILS, SERIES)}
    assert {promise.name for promise in slo.objectives(Objectives(), SERIES)} - names == {
        "first-token-p99",
        "inter-token-p99",
    }


def test_every_bucket_is_written_as_the_server_writes_it() -> None:
    families = {family.name: family for family in text_string_to_metric_families(Metrics("m").text().decode())}
    for metric, buckets in ((TIME_TO_FIRST_TOKEN, FIRST_TOKEN_BUCKETS), (INTER_TOKEN_LATENCY, INTER_TOKEN_BUCKETS)):
        exposed = {sample.labels["le"] for sample in families[metric].samples if sample.name.endswith("_bucket")}
        for seconds in buckets:
            first = seconds if metric == TIME_TO_FIRST_TOKEN else FIRST_TOKEN_BUCKETS[0]
            between = seconds if metric == INTER_TOKEN_LATENCY else INTER_TOKEN_BUCKETS[0]
            promised = replace(NO_TAILS, first_token_seconds=first, inter_token_seconds=between)
            (asked,) = [
                written
                for promise in slo.objectives(promised, SERIES)
                if metric in promise.missed("5m")
                for written in re.findall(r'le="([^"]+)"', promise.missed("5m"))
            ]
            assert asked in exposed


@pytest.mark.parametrize("name", ["chat", "a" * 54, "qwen3-8b"])
def test_pods_are_told_by_their_names(name: str) -> None:
    series = ModelSeries.of(Workload(namespace="llm", name=name, served_model="m"), honor_labels=True)
    replica_set = f"{name}-6d5f7c9b8d"
    pod = f"{f'{replica_set}-'[:58]}x2k9p"
    assert re.fullmatch(series.pods, pod)
    assert not re.fullmatch(series.pods, f"{name}-v2-6d5f7c9b8d-x2k9p")


def _rules(spec: JsonObject) -> list[dict[str, Any]]:
    groups = json.loads(json.dumps(spec))["groups"]
    return [rule for group in groups for rule in group["rules"]]
