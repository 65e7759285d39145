"""How releases are handed to Helm, with Helm's own command and no cluster."""

import hashlib
import io
import tarfile
import threading
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import yaml
from pulumi.runtime.proto import provider_pb2

from local.paths import Paths
from local.providers.engine_log import EngineLog
from local.providers.kubernetes.helm import COMMAND_VARIABLE, Helm, HelmError, Release
from local.providers.kubernetes.release import Releases
from local.providers.values import ASSET, SIGNATURE, UNKNOWN_STRING, from_wire, to_wire
from local.screen import Screen
from local.toolchain import obtain
from tests.local.conftest import Site

Json = dict[str, Any]
URN = "urn:pulumi:s::p::kubernetes:helm.sh/v3:Release::monitoring"
FACTS = {"apiVersion": "v2", "name": "sample", "version": "1.10"}  # a version that a number would spoil


def chart(folder: Path, **facts: object) -> Path:
    """A chart with nothing in it."""
    folder.mkdir(parents=True)
    (folder / "Chart.yaml").write_text(yaml.safe_dump({**FACTS, **facts}))
    return folder


def packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(folder, FACTS["name"])
    return buffer.getvalue()


@pytest.fixture
def helm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Helm:
    monkeypatch.setenv(COMMAND_VARIABLE, str(obtain(Paths(), Screen()).helm))
    monkeypatch.chdir(tmp_path)
    return Helm("", "", {"HELM_REPOSITORY_CACHE": str(tmp_path / "cache")}, threading.Event())


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A Helm that writes down its arguments, and in the last line what it was given on standard input."""
    said = tmp_path / "said"
    command = tmp_path / "helm"
    command.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {said}\ncat >> {said}\n')
    command.chmod(0o755)
    monkeypatch.setenv(COMMAND_VARIABLE, str(command))
    return said


def test_every_option_reaches_helm(recorded: Path) -> None:
    inputs = {
        "chart": "oci://registry.example/charts/sample",
        "version": "1.2.3",
        "name": "r",
        "namespace": "n",
        "createNamespace": True,
        "atomic": True,
        "cleanupOnFail": True,
        "skipCrds": True,
        "waitForJobs": True,
        "timeout": 7,
        "values": {"password": "hush"},
        "repositoryOpts": {"repo": "ignored", "username": "me"},
    }
    helm = Helm("/a/kubeconfig", "there", {}, threading.Event())
    helm.install(inputs)
    *arguments, values = recorded.read_text().splitlines()
    assert arguments == [
        "install", "r", "oci://registry.example/charts/sample", "--version=1.2.3", "--namespace=n",
        "--atomic", "--skip-crds", "--create-namespace", "--wait", "--wait-for-jobs", "--timeout=7s", "--values=-",
        "--kubeconfig=/a/kubeconfig", "--kube-context=there",
    ]  # fmt: skip
    assert values == '{"password": "hush"}'
    helm.upgrade({**inputs, "skipAwait": True})
    arguments = recorded.read_text().splitlines()
    assert {"upgrade", "--history-max=0", "--cleanup-on-fail", "--atomic"} <= set(arguments)
    assert not {"--wait", "--wait-for-jobs", "--create-namespace"} & set(arguments)
    helm.uninstall(inputs)
    assert recorded.read_text().splitlines()[:5] == ["uninstall", "r", "--namespace=n", "--ignore-not-found", "--wait"]


@pytest.mark.parametrize(
    ("given", "located"),
    [
        ({"chart": "sample"}, ["HERE/sample"]),
        ({"chart": "./missing"}, ["HERE/missing"]),
        ({"chart": "elsewhere/sample"}, ["elsewhere/sample"]),
        ({"chart": "sample", "repositoryOpts": {"repo": "https://charts.example"}}, ["sample", "--repo=https://charts.example"]),
        ({"chart": "keda", "repositoryOpts": {"repo": "kedacore"}}, ["kedacore/keda"]),
    ],
)  # fmt: skip
def test_place_of_the_chart(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Json, located: list[str]
) -> None:
    chart(tmp_path / "sample")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError):  # what was written down is no chart
        Helm("", "", {}, threading.Event()).chart(given)
    expected = [place.replace("HERE", str(tmp_path)) for place in located]
    assert recorded.read_text().splitlines() == ["show", "chart", *expected]


@pytest.mark.parametrize(
    ("given", "commands"),
    [
        (
            {"chart": "sample", "repositoryOpts": {"repo": "https://charts.example"}},
            ["repo add private https://charts.example --username=me --password-stdin", "show chart private/sample"],
        ),
        (
            {"chart": "oci://registry.example/charts/sample", "repositoryOpts": {}},
            [
                "registry login registry.example --username=me --password-stdin",
                "show chart oci://registry.example/charts/sample",
            ],
        ),
    ],
)
def test_password_is_in_no_list_of_processes(recorded: Path, given: Json, commands: list[str]) -> None:
    command = recorded.with_name("helm")
    command.write_text(f'#!/bin/sh\necho "$@" >> {recorded}\ncat > /dev/null\necho "version: 1"\n')
    options = {**given["repositoryOpts"], "username": "me", "password": "hush"}
    Helm("", "", {}, threading.Event()).chart({**given, "repositoryOpts": options})
    assert recorded.read_text().splitlines() == commands


def test_kubeconfig_that_is_a_text_is_a_file_for_helm_alone(recorded: Path) -> None:
    Helm("apiVersion: v1\nkind: Config\n", "", {}, threading.Event()).uninstall({"name": "r", "namespace": "n"})
    (option,) = (line for line in recorded.read_text().splitlines() if line.startswith("--kubeconfig="))
    assert not Path(option.partition("=")[2]).exists()


def test_objects_are_named_by_kind() -> None:
    manifest = """
---
# a template that came to nothing
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: n}}
---
{apiVersion: v1, kind: Service, metadata: {name: r, namespace: n}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {operators: [=, 1.10]}}
"""
    release = Release(
        name="r", namespace="n", revision=1, status="deployed", chart="c", version="1", app_version="1", values={},
        manifest=manifest,
    )  # fmt: skip
    assert release.resource_names == {"Service/v1": ["n/r", "n/s"], "Deployment.apps/apps/v1": ["d"]}
    assert "operators" not in repr(release)


@pytest.mark.engine
def test_chart_in_a_folder_or_packed_is_loaded(helm: Helm, tmp_path: Path) -> None:
    folder = chart(tmp_path / "sample")
    (tmp_path / "sample-1.10.tgz").write_bytes(packed(folder))
    for place in ("sample", "./sample", str(folder), "sample-1.10.tgz"):
        assert helm.chart({"chart": place})["version"] == "1.10"


@pytest.mark.engine
def test_chart_that_lacks_what_it_depends_on_is_refused(helm: Helm, tmp_path: Path) -> None:
    folder = chart(
        tmp_path / "sample", dependencies=[{"name": "other", "version": "1", "repository": "https://x.invalid"}]
    )
    with pytest.raises(HelmError, match="missing in charts/ directory: other"):
        helm.chart({"chart": "sample"})
    chart(folder / "charts" / "other", name="other", version="1.0.0")
    assert helm.chart({"chart": "sample"})["name"] == "sample"


@pytest.mark.engine
def test_chart_of_a_repository_is_loaded(helm: Helm, site: Site, tmp_path: Path) -> None:
    content = packed(chart(tmp_path / "made" / "sample"))
    entry = {**FACTS, "urls": [f"{site.url}/sample.tgz"], "digest": hashlib.sha256(content).hexdigest()}
    index = {"apiVersion": "v1", "entries": {"sample": [{**entry, "version": "1.9.0"}, entry]}}
    site.files = {"/index.yaml": yaml.safe_dump(index).encode(), "/sample.tgz": content}
    (tmp_path / "sample").mkdir()  # not the chart, though it has its name
    given = {"chart": "sample", "repositoryOpts": {"repo": site.url}}
    assert helm.chart(given)["version"] == "1.10"
    with pytest.raises(HelmError, match='chart "sample" version "2" not found'):
        helm.chart({**given, "version": "2"})
    site.authorization = f"Basic {b64encode(b'me:hush').decode()}"
    with pytest.raises(HelmError, match="401"):
        helm.chart(given)
    known = {"repo": site.url, "username": "me", "password": "hush"}
    assert helm.chart({**given, "repositoryOpts": known, "version": "1.9.0"})["version"] == "1.10"  # as it is packed


def check(helm: Helm, news: Json, olds: Json | None = None) -> provider_pb2.CheckResponse:
    request = provider_pb2.CheckRequest(
        urn=URN, news=to_wire(news), olds=to_wire(olds or {}), randomSeed=b"\x01\x02\x03\x04"
    )
    return Releases(helm, "default", EngineLog("127.0.0.1:1")).check(request)


@pytest.mark.engine
def test_inputs_are_completed(helm: Helm, tmp_path: Path) -> None:
    chart(tmp_path / "sample")
    (tmp_path / "values.yaml").write_text("{of: {file: 1, both: 1}, list: [1, 2]}")
    files = [{SIGNATURE: ASSET, "path": "values.yaml"}, {SIGNATURE: ASSET, "text": "{of: {text: 2}}"}]
    values = {"of": {"both": 3, "nothing": None}, "list": [4]}
    checked = check(helm, {"chart": "sample", "compat": "true", "valueYamlFiles": files, "values": values})
    assert not checked.failures
    assert from_wire(checked.inputs) == {
        "chart": "sample",
        "name": "monitoring-01020304",
        "namespace": "default",
        "timeout": 300,
        "version": "1.10",
        "values": {"of": {"file": 1, "text": 2, "both": 3}, "list": [4]},
    }
    again = check(helm, {"chart": "sample", "skipAwait": True}, {"name": "monitoring-before"})
    assert from_wire(again.inputs)["name"] == "monitoring-before"
    assert "timeout" not in from_wire(again.inputs)


@pytest.mark.engine
def test_chart_is_not_looked_for_while_an_input_is_unknown(helm: Helm) -> None:
    unknown = {"chart": "./missing", "values": {"a": UNKNOWN_STRING}}
    assert not check(helm, unknown).failures
    (failure,) = check(helm, {**unknown, "values": {"a": "b"}, "version": "1"}).failures
    assert failure.property == "chart"
    assert failure.reason.startswith('chart "./missing" 1 could not be loaded: path ')
    assert failure.reason.endswith("not found; check the chart name and repository configuration.")


def test_cancelled_helm_is_asked_to_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = tmp_path / "helm"
    command.write_text(
        "#!/bin/sh\ntrap 'echo \"Error: context canceled\" >&2; exit 1' TERM\nwhile :; do sleep 0.05; done\n"
    )
    command.chmod(0o755)
    monkeypatch.setenv(COMMAND_VARIABLE, str(command))
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(HelmError, match=r"^context canceled$"):
        Helm("", "", {}, cancelled).install({"name": "r", "namespace": "n", "chart": "oci://c"})
