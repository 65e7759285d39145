"""The platform as the engine is asked to make it: which parts, in which order, from where."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from google.protobuf import json_format
from pulumi.runtime import mocks as pulumi_mocks

from infra.components.platform import Platform, PlatformArgs
from infra.config.schema import (
    Charts,
    DevicePlugin,
    FolderCharts,
    GpuMetrics,
    InstallMonitoring,
    Keda,
    MirrorCharts,
    PublisherCharts,
)
from infra.versions import CHARTS, Chart
from tests.infra.platform.cases import EXISTING, MIRROR, POOL, WEBHOOK
from tests.infra.wire import clear, revealed

INSTALLED = PlatformArgs(
    device_plugin=DevicePlugin(mode="install"),
    gpu_metrics=GpuMetrics(mode="install"),
    keda=Keda(mode="install"),
    monitoring=InstallMonitoring(alert_webhook=WEBHOOK),
    gpu_pools={"gpu": POOL},
    charts=PublisherCharts(),
    mirror=None,
)
EXISTING_PARTS = replace(
    INSTALLED, device_plugin=DevicePlugin(), gpu_metrics=GpuMetrics(), keda=Keda(), monitoring=EXISTING, gpu_pools={}
)


@dataclass
class Asked:
    """What the engine was asked to register: inputs as they went over the wire, and what has to be there before."""

    inputs: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # by URN
    before: dict[str, set[str]] = field(default_factory=dict)  # URNs by URN
    urns: list[str] = field(default_factory=list)  # with those of components
    platform: Platform | None = None

    @property
    def releases(self) -> dict[str, Mapping[str, Any]]:
        return {urn.rpartition("::")[2]: inputs for urn, inputs in self.inputs.items() if "helm.sh/v3:Release::" in urn}

    @property
    def namespaces(self) -> dict[str, Mapping[str, str]]:
        return {
            inputs["metadata"]["name"]: inputs["metadata"]["labels"]
            for urn, inputs in self.inputs.items()
            if "core/v1:Namespace::" in urn
        }

    def waits(self, later: str, earlier: str) -> bool:
        """Whether the resource whose URN ends in ``later`` is only made after the one that ends in ``earlier``."""
        (start,) = [urn for urn in self.inputs if urn.endswith(later)]
        seen: set[str] = set()
        left = [start]
        while left:
            for urn in self.before.get(left.pop(), set()) - seen:
                seen.add(urn)
                left.append(urn)
        return any(urn.endswith(earlier) for urn in seen)


Build = Callable[[PlatformArgs], Asked]


@pytest.fixture
def build(under_mocks: Callable[[Callable[[], object]], Any], monkeypatch: pytest.MonkeyPatch) -> Build:
    """Builds a platform alone, and returns what was asked for."""
    asked = Asked()
    register: Callable[[pulumi_mocks.MockMonitor, Any], Any] = pulumi_mocks.MockMonitor.RegisterResource

    def recorded(monitor: pulumi_mocks.MockMonitor, request: Any) -> Any:
        response = register(monitor, request)
        asked.urns.append(response.urn)
        if request.custom:
            asked.inputs[response.urn] = json_format.MessageToDict(request.object)
            asked.before[response.urn] = set(request.dependencies)
        return response

    monkeypatch.setattr(pulumi_mocks.MockMonitor, "RegisterResource", recorded)

    def run(args: PlatformArgs) -> Asked:
        def program() -> None:
            asked.platform = Platform("platform", args)

        under_mocks(program)
        return asked

    return run


def test_what_is_installed_has_these_names_for_ever(build: Build) -> None:
    # A changed name makes the engine remove the part, and with it what others have in it. (The mock engine says of the
    # types above a resource only the last.)
    components, release, core = "llm-stack:components", "kubernetes:helm.sh/v3:Release", "kubernetes:core/v1"
    platform = f"{components}:Platform$"
    monitoring, keda = f"{components}:Monitoring", f"{components}:Keda"
    plugin, metrics = f"{components}:NvidiaDevicePlugin", f"{components}:GpuMetrics"
    alerts = f"{components}:PlatformAlerts"
    urns = {urn.removeprefix("urn:pulumi:test::llm-stack::") for urn in build(INSTALLED).urns}
    assert {urn for urn in urns if not urn.startswith("pulumi:pulumi:Stack::")} == {
        f"pulumi:pulumi:Stack${components}:Platform::platform",
        f"{platform}{monitoring}::monitoring",
        f"{monitoring}${core}:Namespace::monitoring",
        f"{monitoring}${core}:Secret::alertmanager-webhook",
        f"{monitoring}${release}::prometheus-operator-crds",
        f"{monitoring}${release}::kube-prometheus-stack",
        f"{platform}{keda}::keda",
        f"{keda}${core}:Namespace::keda",
        f"{keda}${release}::keda",
        f"{platform}{plugin}::device-plugin",
        f"{plugin}${core}:Namespace::nvidia-device-plugin",
        f"{plugin}${core}:ResourceQuota::nvidia-device-plugin-critical-pods",
        f"{plugin}${release}::nvidia-device-plugin",
        f"{platform}{metrics}::gpu-metrics",
        f"{metrics}${core}:Namespace::dcgm-exporter",
        f"{metrics}${core}:ResourceQuota::dcgm-exporter-critical-pods",
        f"{metrics}${release}::dcgm-exporter",
        f"{platform}{alerts}::alerts",
        f"{alerts}$kubernetes:monitoring.coreos.com/v1:PrometheusRule::alerts",
        f"{alerts}${core}:ConfigMap::alerts-dashboard",
    }


def test_what_the_cluster_has_is_not_touched(build: Build) -> None:
    asked = build(EXISTING_PARTS)
    assert asked.inputs == {}
    assert asked.platform is not None
    assert asked.platform.monitoring.prometheus_address == "http://prometheus.metrics.svc:9090"
    assert asked.platform.monitoring.selector_labels == {"release": "metrics"}


def test_each_part_is_installed_or_not_by_itself(build: Build) -> None:
    assert set(build(replace(EXISTING_PARTS, keda=Keda(mode="install", namespace="autoscaling"))).releases) == {"keda"}


def test_the_gpu_operator_stands_in_for_plugin_and_exporter(build: Build) -> None:
    asked = build(replace(INSTALLED, device_plugin=DevicePlugin(mode="gpu-operator")))
    assert set(asked.releases) == {"prometheus-operator-crds", "kube-prometheus-stack", "keda", "gpu-operator"}
    assert asked.waits("Release::gpu-operator", "Release::kube-prometheus-stack")


@pytest.mark.parametrize(
    ("later", "earlier"),
    [
        ("Release::prometheus-operator-crds", "Namespace::monitoring"),
        ("Release::kube-prometheus-stack", "Release::prometheus-operator-crds"),
        ("Release::kube-prometheus-stack", "Secret::alertmanager-webhook"),
        ("Release::keda", "Release::prometheus-operator-crds"),
        ("Release::keda", "Namespace::keda"),
        ("Release::dcgm-exporter", "Release::prometheus-operator-crds"),
        ("Release::dcgm-exporter", "ResourceQuota::dcgm-exporter-critical-pods"),
        ("Release::nvidia-device-plugin", "ResourceQuota::nvidia-device-plugin-critical-pods"),
    ],
)
def test_what_is_needed_comes_first(build: Build, later: str, earlier: str) -> None:
    asked = build(INSTALLED)
    assert asked.waits(later, earlier)
    assert not asked.waits(earlier, later)


def test_gpus_are_offered_whatever_becomes_of_prometheus(build: Build) -> None:
    assert not build(INSTALLED).waits("Release::nvidia-device-plugin", "Namespace::monitoring")


def test_pods_reach_as_far_into_their_node_as_they_must(build: Build) -> None:
    asked = build(INSTALLED)
    enforced = {name: labels.get("pod-security.kubernetes.io/enforce") for name, labels in asked.namespaces.items()}
    assert enforced == {
        "monitoring": "privileged",
        "nvidia-device-plugin": "privileged",
        "dcgm-exporter": "privileged",
        "keda": "restricted",
    }


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
@pytest.mark.parametrize(
    ("charts", "location"),
    [
        (PublisherCharts(), "{name}"),
        (FolderCharts(path="charts"), "../charts/{name}-{version}.tgz"),
        (MirrorCharts(registry="oci://mirror.example.org/charts"), "oci://mirror.example.org/charts/{name}"),
    ],
    ids=["publishers", "folder", "mirror"],
)
def test_charts_come_from_where_they_should(build: Build, chart: Chart, charts: Charts, location: str) -> None:
    mode = cast(Any, "gpu-operator" if chart.name == "gpu-operator" else "install")
    asked = build(replace(INSTALLED, charts=charts, device_plugin=DevicePlugin(mode=mode)))
    release = asked.releases[chart.name]
    assert release["chart"] == location.format(name=chart.name, version=chart.version)
    assert (release["name"], release["version"]) == (chart.name, chart.version)
    repository = {"repo": chart.repository} if isinstance(charts, PublisherCharts) else None
    assert release.get("repositoryOpts") == repository


def test_a_release_waits_and_leaves_no_half_behind(build: Build) -> None:
    for name, release in build(INSTALLED).releases.items():
        assert release["atomic"] is True, name
        assert release["timeout"] > 300, name
        assert release.get("skipAwait") is None, name


def test_no_secret_goes_over_the_wire_in_clear(build: Build) -> None:
    asked = build(replace(INSTALLED, mirror=MIRROR))
    registry = MIRROR.registry
    assert registry is not None
    login = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
    texts = list(clear(asked.inputs))
    assert "kube-prometheus-stack" in texts
    for secret in (WEBHOOK, registry.password, login):
        assert not [text for text in texts if secret in text]
    secrets = {urn.rpartition("::")[2]: inputs for urn, inputs in asked.inputs.items() if "v1:Secret::" in urn}
    assert revealed(secrets["alertmanager-webhook"]["stringData"]) == {"url": WEBHOOK}
    assert set(secrets) == {"alertmanager-webhook", *(f"{name}-mirror" for name in asked.namespaces)}
    for name in asked.namespaces:
        pull = secrets[f"{name}-mirror"]
        assert pull["type"] == "kubernetes.io/dockerconfigjson"
        assert pull["metadata"] == {"name": "llm-stack-mirror", "namespace": name}
        assert json.loads(revealed(pull["stringData"])[".dockerconfigjson"]) == {
            "auths": {"mirror.example.org:5000": {"auth": login}}
        }
    assert asked.waits("Release::keda", "Secret::keda-mirror")


def test_the_platform_says_where_prometheus_is_before_it_is_there(build: Build) -> None:
    asked = build(INSTALLED)
    assert asked.platform is not None
    assert asked.platform.prometheus.address == "http://llm-stack-prometheus.monitoring.svc:9090"
    assert asked.platform.monitoring.namespace == "monitoring"
    assert asked.platform.monitoring.selector_labels == {}
