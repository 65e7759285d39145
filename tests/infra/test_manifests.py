"""Every configuration that is accepted becomes manifests that a cluster takes; every other one is refused with findings."""

import base64
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from google.protobuf import json_format
from hypothesis import HealthCheck, Phase, event, example, given, settings
from jsonschema import Draft202012Validator, FormatChecker
from kubernetes_validate.utils import schema_contents
from pulumi.runtime import mocks as pulumi_mocks
from referencing import Registry, Resource

from infra.config.files import from_files
from infra.config.loader import parse
from infra.config.parsing import ConfigError, Secret
from infra.config.schema import PvcWeights, StackConfig
from infra.findings import Finding
from infra.plan.plan import plan
from infra.stack import LlmStack, LlmStackArgs, providers
from local.toolchain import Tools
from tests.infra.cluster import Manifest, astray, dangling, restricted, twice, well_formed
from tests.infra.conftest import Program
from tests.infra.strategies import MARK, configurations, garbage, spoilt
from tests.infra.wire import clear, revealed

Group = dict[str, Any]
KUBERNETES = "v1.36.0-local-strict"  # the local cluster's minor version, unknown keys refused
CRDS = {
    "ScaledObject": "keda.sh_scaledobjects",
    "TriggerAuthentication": "keda.sh_triggerauthentications",
    "ServiceMonitor": "monitoring.coreos.com_servicemonitors",
    "PrometheusRule": "monitoring.coreos.com_prometheusrules",
    "HTTPRoute": "gateway.networking.k8s.io_httproutes",
}
INT32 = 2**31
FORMATS = FormatChecker(formats=())


@FORMATS.checks("int32")
def is_int32(value: object) -> bool:
    return not isinstance(value, int | float) or -INT32 <= value < INT32


# What is drawn together too seldom: the longest names, a slice with media engines, secrets in every place that takes one.
RARE: Group = {
    "cluster": {"identifier": "test", "context": "test", "namespace": "llm"},
    "image": {
        "mode": "build",
        "repository": "registry.acme.dev/llm/server",
        "registry": {"server": "registry.acme.dev", "username": "robot", "password": Secret(f"{MARK}-registry")},
    },
    "device_plugin": {"mode": "install", "mig_strategy": "mixed"},
    "monitoring": {
        "mode": "existing",
        "prometheus_address": "https://prometheus.acme.dev",
        "bearer_token": Secret(f"{MARK}-token"),
        "platform_alerts": True,
    },
    "gpu_pools": {"h100": {"gpu": "H100-80GB", "total": "autoscaled"}},
    "models": {
        "a" * 46: {
            "weights": {
                "source": "s3",
                "bucket": "models",
                "prefix": "chat",
                "size": "20Gi",
                "access_key": "reader",
                "secret_key": Secret(f"{MARK}-s3"),
            },
            "resources": {"cpu": "4", "memory": "16Gi", "memory_limit": "32Gi"},
            "gpus": {"count": 1, "pool": "h100", "mig_profile": "1g.10gb+me"},
            "scaling": {"gpu_percent": 60},
            "exposure": {"kind": "gateway", "host": "chat.acme.dev", "gateway": "public", "namespace": "edge"},
            "api_keys": {"source": "given", "keys": Secret(f"{MARK}-key")},
        }
    },
}


def examples(count: int) -> settings:
    """The same examples at every run, none of them shrunk: a stack takes too long, and what fails names its key."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


@dataclass
class Rendered:
    """A stack as the engine was asked for it: its manifests, and every resource's inputs with the marks of secrets, by URN."""

    manifests: list[Manifest] = field(default_factory=list)
    inputs: dict[str, Mapping[str, Any]] = field(default_factory=dict)


Render = Callable[[StackConfig], Rendered]


@pytest.fixture
def render(under_mocks: Program, monkeypatch: pytest.MonkeyPatch) -> Render:
    """Builds the stack of a configuration."""
    register: Callable[[pulumi_mocks.MockMonitor, Any], Any] = pulumi_mocks.MockMonitor.RegisterResource
    rendered, models = Rendered(), dict[str, str]()  # models by the URN of each component and resource

    def recorded(monitor: pulumi_mocks.MockMonitor, request: Any) -> Any:
        response = register(monitor, request)
        is_model = request.type == "llm-stack:components:Model"
        models[response.urn] = request.name if is_model else models.get(request.parent, "")
        if request.custom:
            rendered.inputs[response.urn] = inputs = json_format.MessageToDict(request.object)
            if "apiVersion" in inputs:
                rendered.manifests.append(Manifest(model=models[response.urn], document=revealed(inputs)))
        return response

    monkeypatch.setattr(pulumi_mocks.MockMonitor, "RegisterResource", recorded)

    def run(config: StackConfig) -> Rendered:
        rendered.manifests, rendered.inputs = [], {}
        models.clear()
        options = pulumi.ResourceOptions(providers=providers(config))
        under_mocks(lambda: LlmStack("llm", LlmStackArgs(config=config, tag="test"), options) and None)
        return rendered

    return run


def accepted(mapping: object) -> StackConfig | None:
    """The configuration; None where it is refused, and then every finding says what to do."""
    try:
        return parse(mapping)  # type: ignore[arg-type] # a file may hold anything
    except ConfigError as refusal:
        refused = refusal.findings
    assert refused
    assert_helpful(refused)
    return None


def assert_helpful(findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        assert finding.value
        assert finding.problem
        assert finding.remedy.endswith((".", "?")), finding


@cache
def schema_of(api_version: str, kind: str) -> Draft202012Validator:
    """The validator of one of Kubernetes' own kinds."""
    group, _, version = api_version.rpartition("/")
    name = "-".join(filter(None, (kind.lower(), group.partition(".")[0], version)))
    schema, definitions = (
        schema_contents(f"kubernetes-json-schema/{KUBERNETES}/{file}.json", KUBERNETES)
        for file in (name, "_definitions")
    )
    registry: Registry[Any] = Registry().with_resource(definitions["$id"], Resource.from_contents(definitions))
    return Draft202012Validator(schema, registry=registry, format_checker=FORMATS)


def closed(schema: Any) -> Any:
    """The schema with unknown keys refused, which the API server would only prune."""
    if isinstance(schema, list):
        return [closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    inside = {name: closed(inner) for name, inner in schema.items()}
    if "properties" in inside and "x-kubernetes-preserve-unknown-fields" not in inside:
        inside.setdefault("additionalProperties", False)
    return inside


def users_own(config: StackConfig) -> frozenset[str]:
    """Names of objects that the configuration says are there already."""
    claims = (model.weights.claim for model in config.models.values() if isinstance(model.weights, PvcWeights))
    return frozenset((*config.image.pull_secrets, *claims))


def secrets_of(value: object) -> Iterator[str]:
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from secrets_of(inner)


def hidden_in(text: str) -> bool:
    """Whether a text has a secret in it, in clear or in base64 at any of its three alignments."""
    forms = (base64.b64encode(f"{'.' * skipped}{MARK}..".encode()).decode() for skipped in range(3))
    return MARK in text or any(form[4:-4] in text for form in forms)


@given(mapping=garbage() | spoilt())
@examples(100)
def test_whatever_is_written_is_accepted_or_refused_with_findings(mapping: object) -> None:
    accepted(mapping)


@given(mapping=configurations())
@example(mapping=RARE)
@example(mapping=from_files("local"))
@example(mapping=from_files("dev"))
@example(mapping=from_files("prod"))
@examples(40)
def test_what_is_accepted_is_what_a_cluster_takes(render: Render, mapping: Group) -> None:
    config = accepted(mapping)
    event("accepted" if config else "refused")
    if config is None:
        return
    assert_helpful(plan(config).findings)
    rendered = render(config)
    manifests = rendered.manifests
    for manifest in manifests:
        if manifest.kind not in CRDS.keys() | {"Release"}:
            schema_of(manifest.document["apiVersion"], manifest.kind).validate(manifest.document)
        assert list(well_formed(manifest)) == [], manifest
        if manifest.template is not None:
            assert list(restricted(manifest.template)) == [], manifest
    assert list(astray(manifests)) == []
    assert list(dangling(manifests, users_own(config))) == []
    assert list(twice(manifests)) == []
    assert [text for text in clear(rendered.inputs) if hidden_in(text)] == []


def queries(manifests: list[Manifest]) -> Iterator[str]:
    """Every PromQL that KEDA, Prometheus and the proof's Job are told."""
    for manifest in manifests:
        match manifest.kind:
            case "ScaledObject":
                metadata = (trigger["metadata"] for trigger in manifest.spec["triggers"])
                yield from (told["query"] for told in metadata if "query" in told)
            case "PrometheusRule":
                yield from (rule["expr"] for group in manifest.spec["groups"] for rule in group["rules"])


@pytest.fixture
def definitions(crd_schema: Callable[[str], Group]) -> dict[str, Draft202012Validator]:
    """The validators of the specs of custom resources, by kind."""
    schemas = {kind: closed(crd_schema(file)["properties"]["spec"]) for kind, file in CRDS.items()}
    return {kind: Draft202012Validator(schema, format_checker=FORMATS) for kind, schema in schemas.items()}


@pytest.mark.engine
@given(mapping=configurations())
@example(mapping=RARE)
@example(mapping=from_files("local"))
@example(mapping=from_files("prod"))
@examples(15)
def test_what_is_accepted_is_what_the_owners_of_custom_resources_take(
    render: Render, tools: Tools, definitions: dict[str, Draft202012Validator], tmp_path: Path, mapping: Group
) -> None:
    config = accepted(mapping)
    if config is None:
        return
    manifests = render(config).manifests
    for manifest in manifests:
        if manifest.kind in CRDS:
            definitions[manifest.kind].validate(manifest.spec)
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries(manifests))]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run([tools.promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
