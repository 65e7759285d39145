"""The charts themselves, rendered with our values: needs `helm`, and their archives in the folder LLM_STACK_CHARTS.

Nobody who works on the stack needs them; whoever changes a version of a chart does.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.config.schema import InstallMonitoring
from infra.prometheus import Prometheus
from infra.versions import KEDA, KUBE_PROMETHEUS_STACK, PROMETHEUS_OPERATOR_CRDS
from tests.infra.platform.cases import MIRROR, Case, cases

CHARTS = os.environ.get("LLM_STACK_CHARTS")
HELM = os.environ.get("LLM_STACK_HELM") or shutil.which("helm")
pytestmark = pytest.mark.skipif(
    not (CHARTS and HELM), reason="needs helm, and LLM_STACK_CHARTS with a folder of the charts' archives"
)
KUBERNETES = "1.36.0"
HOSTS = ("docker.io/", "quay.io/", "ghcr.io/", "nvcr.io/", "registry.k8s.io/")
NAMESPACE = "where"


class Loader(yaml.CSafeLoader):
    """YAML 1.1 takes a lone `=` for something of its own; it stands in a definition's list of choices."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: str(node.value))


def rendered(case: Case, tmp_path: Path) -> list[dict[str, Any]]:
    values = tmp_path / "values.json"
    values.write_text(json.dumps(case.values))
    command = [str(HELM), "template", case.chart.name, str(Path(str(CHARTS)) / case.chart.file), "--include-crds"]
    command += ["--namespace", NAMESPACE, "--kube-version", KUBERNETES, "--values", str(values)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [document for document in yaml.load_all(ran.stdout, Loader) if document]


def texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def pods(documents: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for document in documents:
        if "template" in document.get("spec", {}):
            yield document["spec"]["template"]["spec"]


def publishers(documents: list[dict[str, Any]]) -> list[str]:
    """What is pulled from a publisher's registry."""
    objects = [document for document in documents if document["kind"] not in ("CustomResourceDefinition", "ConfigMap")]
    return [text for text in texts(objects) if any(host in text for host in HOSTS) and "://" not in text]


@pytest.mark.parametrize("case", cases(MIRROR), ids=str)
def test_every_image_comes_from_the_mirror(case: Case, tmp_path: Path) -> None:
    documents = rendered(case, tmp_path)
    assert publishers(documents) == []
    secrets = [{"name": name} for name in ("llm-stack-mirror", "replicated")]
    accounts = {
        document["metadata"]["name"]: document.get("imagePullSecrets")
        for document in documents
        if document["kind"] == "ServiceAccount"
    }
    for pod in pods(documents):
        given = pod.get("imagePullSecrets") or accounts.get(pod.get("serviceAccountName"))
        assert given == secrets, pod["containers"][0]["name"]


@pytest.mark.parametrize("case", cases(None), ids=str)
def test_definitions_are_kept_and_monitors_are_selected(case: Case, tmp_path: Path) -> None:
    documents = rendered(case, tmp_path)
    assert publishers(documents) or case.chart == PROMETHEUS_OPERATOR_CRDS
    for document in documents:
        metadata = document["metadata"]
        if document["kind"] == "CustomResourceDefinition" and case.chart in (KEDA, PROMETHEUS_OPERATOR_CRDS):
            assert metadata["annotations"]["helm.sh/resource-policy"] == "keep"
        if document["kind"] == "ServiceMonitor" and (
            case.name.endswith("monitoring existing") or case.name.startswith("exporter")
        ):
            assert metadata["labels"]["release"] == "metrics"


def test_the_service_of_prometheus_is_where_the_stack_looks(tmp_path: Path) -> None:
    for case in cases(None):
        if case.chart == KUBE_PROMETHEUS_STACK:
            services = {
                (document["metadata"]["name"], port["port"])
                for document in rendered(case, tmp_path)
                if document["kind"] == "Service"
                for port in document["spec"]["ports"]
            }
            host, port = Prometheus.of(InstallMonitoring()).address.removeprefix("http://").split(":")
            assert (host.partition(".")[0], int(port)) in services
