"""The values of the charts: known to the chart, complete for a mirror, and right for each mode."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
import yaml

from infra.charts import dcgm_exporter, device_plugin, gpu_operator, keda, prometheus
from infra.charts.gpu_nodes import GpuNodes
from infra.charts.images import Images
from infra.config.schema import DevicePlugin, GpuMetrics, GpuPool, InstallMonitoring, Toleration
from infra.prometheus import Prometheus
from infra.versions import CHARTS, KEDA, KUBE_PROMETHEUS_STACK
from infra.wire import JsonObject
from tests.infra.platform.cases import EXISTING, MIRROR, POOL, WEBHOOK, Case, cases
from tests.infra.platform.chart_keys import ChartKeys

PLAIN = Images()
NODES = GpuNodes.of({}, [])
# One key of these charts stands in for the registry of each of their images; read in their templates.
REGISTRY_OF_ALL = {KEDA: "global.image.registry", KUBE_PROMETHEUS_STACK: "global.imageRegistry"}


def at(values: Mapping[str, Any], path: str) -> Any:
    """What stands under a dotted path; None where nothing does."""
    found: Any = values
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def leaves(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def test_a_list_of_keys_finds_what_a_chart_does_not_have() -> None:
    keys = ChartKeys({"a.b": "", "a.free": "{}", "a.many": "[]", "any": "~"}, {})
    assert keys.unknown({"a": {"b": 1, "free": {"x": 1}, "many": [1]}, "any": {"y": 2}}) == []
    assert keys.unknown({"a": {"B": 1, "b": {"x": 1}, "many": "one"}, "c": 1}) == ["a.B", "a.b", "a.many", "c"]


@pytest.mark.parametrize("case", cases(MIRROR), ids=str)
def test_the_chart_knows_every_value(case: Case) -> None:
    assert ChartKeys.read(case.chart.name, case.chart.version).unknown(case.values) == []


def test_every_chart_is_tested() -> None:
    assert {case.chart for case in cases(None)} == set(CHARTS)


@pytest.mark.parametrize("case", cases(MIRROR), ids=str)
def test_a_mirror_stands_in_for_every_registry(case: Case) -> None:
    of_all = REGISTRY_OF_ALL.get(case.chart)
    if of_all:
        assert at(case.values, of_all) == MIRROR.images
        return
    for path, publishers in ChartKeys.read(case.chart.name, case.chart.version).registries.items():
        if path.startswith("nfd.") and not at(case.values, "gfd.enabled"):
            continue  # the subchart is left out
        assert at(case.values, path) in {MIRROR.images, f"{MIRROR.images}/{publishers.partition('/')[2]}"}, path


@pytest.mark.parametrize("case", cases(None), ids=str)
def test_without_a_mirror_every_image_is_its_publishers(case: Case) -> None:
    for path, publishers in ChartKeys.read(case.chart.name, case.chart.version).registries.items():
        assert at(case.values, path) in {None, publishers}, path
    assert not at(case.values, REGISTRY_OF_ALL.get(case.chart, "none"))


def test_an_address_for_alerts_is_in_no_value() -> None:
    (values,) = [case.values for case in cases(None) if case.name == "prometheus with webhook"]
    assert not [leaf for leaf in leaves(values) if WEBHOOK in str(leaf)]
    assert at(values, "alertmanager.alertmanagerSpec.secrets") == [prometheus.WEBHOOK_SECRET]
    receivers = at(values, "alertmanager.config.receivers")
    assert receivers[-1]["webhook_configs"] == [
        {"url_file": "/etc/alertmanager/secrets/alertmanager-webhook/url", "send_resolved": True}
    ]
    assert at(values, "alertmanager.config.route.receiver") == receivers[-1]["name"]


def test_without_an_address_for_alerts_the_charts_routes_stay() -> None:
    assert "config" not in cast(JsonObject, prometheus.values(InstallMonitoring(), PLAIN)["alertmanager"])


def test_prometheus_selects_what_others_bring() -> None:
    spec = at(prometheus.values(InstallMonitoring(), PLAIN), "prometheus.prometheusSpec")
    assert [key for key, value in spec.items() if key.endswith("NilUsesHelmValues") and value is False] == [
        f"{kind}SelectorNilUsesHelmValues" for kind in ("serviceMonitor", "podMonitor", "probe", "rule", "scrapeConfig")
    ]


def test_the_volume_of_prometheus_is_never_full() -> None:
    monitoring = InstallMonitoring(storage="1Gi", storage_class="fast", retention_days=30)
    spec = at(prometheus.values(monitoring, PLAIN), "prometheus.prometheusSpec")
    assert (spec["retention"], spec["retentionSize"]) == ("30d", "870MiB")
    assert at(spec, "storageSpec.volumeClaimTemplate.spec") == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "fast",
    }


@pytest.mark.parametrize("part", ["kubeEtcd", "kubeScheduler", "kubeControllerManager", "kubeProxy"])
def test_what_a_provider_hides_is_not_scraped(part: str) -> None:
    assert prometheus.values(InstallMonitoring(), PLAIN)[part] == {"enabled": False}


def test_the_address_of_prometheus_is_that_of_the_charts_service() -> None:
    # The chart names the Service <fullnameOverride>-prometheus, and cuts the override after 26 characters.
    override = prometheus.values(InstallMonitoring(), PLAIN)["fullnameOverride"]
    assert len(cast(str, override)) <= 26
    asked = Prometheus.of(InstallMonitoring(namespace="metrics"))
    assert asked.address == f"http://{override}-prometheus.metrics.svc:9090"


def test_definitions_outlive_their_release() -> None:
    keep = {"helm.sh/resource-policy": "keep"}
    assert at(keda.values(Prometheus.of(EXISTING), PLAIN), "crds.additionalAnnotations") == keep
    assert at(prometheus.crd_values(), "crds.annotations") == keep


@pytest.mark.parametrize("part", ["operator", "metricServer", "webhooks"])
def test_keda_is_scraped_by_the_prometheus_there_is(part: str) -> None:
    values = keda.values(Prometheus.of(EXISTING), PLAIN)
    assert at(values, f"prometheus.{part}") == {
        "enabled": True,
        "serviceMonitor": {"enabled": True, "additionalLabels": {"release": "metrics"}},
    }


@pytest.mark.parametrize(("sharing", "key"), [("time-slicing", "timeSlicing"), ("mps", "mps")])
def test_a_gpu_is_shared_as_configured(sharing: str, key: str) -> None:
    plugin = DevicePlugin(sharing=cast(Any, sharing), shares=4, mig_strategy="none")
    alone = device_plugin.values(plugin, NODES, PLAIN)
    within = gpu_operator.values(plugin, GpuMetrics(), NODES, Prometheus.of(EXISTING), PLAIN)
    written = at(alone, "config.map.default")
    assert at(within, "devicePlugin.config.data.default") == written
    assert at(alone, "config.default") == at(within, "devicePlugin.config.default") == "default"
    assert yaml.safe_load(written) == {
        "version": "v1",
        "flags": {"migStrategy": "none"},
        "sharing": {
            key: {"failRequestsGreaterThanOne": True, "resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}
        },
    }
    # MPS needs its nodes labelled.
    assert bool(at(alone, "gfd.enabled")) is (sharing == "mps")


def test_a_whole_gpu_needs_no_configuration_and_no_more_rights() -> None:
    values = device_plugin.values(DevicePlugin(), NODES, PLAIN)
    assert "config" not in values
    assert "gfd" not in values
    assert values["migStrategy"] == "none"


@pytest.mark.parametrize("sharing", ["none", "time-slicing", "mps"])
def test_a_shared_gpu_has_a_series_for_each_pod(sharing: str) -> None:
    plugin, metrics = DevicePlugin(sharing=cast(Any, sharing), shares=2), GpuMetrics(interval_seconds=5)
    alone = dcgm_exporter.values(metrics, plugin, NODES, Prometheus.of(EXISTING), PLAIN)
    within = at(gpu_operator.values(plugin, metrics, NODES, Prometheus.of(EXISTING), PLAIN), "dcgmExporter")
    shared = sharing != "none"
    for env, host_pid in ((at(alone, "extraEnv"), alone["hostPID"]), (within["env"], within["hostPID"])):
        assert ({"name": "KUBERNETES_VIRTUAL_GPUS", "value": "true"} in env) is shared
        assert host_pid is shared
        assert {"name": "DCGM_EXPORTER_INTERVAL", "value": "5000"} in env


@pytest.mark.parametrize("interval", [5, 15])
def test_the_exporter_is_scraped_as_often_as_it_looks(interval: int) -> None:
    metrics = GpuMetrics(interval_seconds=interval, honor_labels=False)
    values = dcgm_exporter.values(metrics, DevicePlugin(), NODES, Prometheus.of(EXISTING), PLAIN)
    monitor = at(values, "serviceMonitor")
    assert monitor["interval"] == f"{interval}s"
    # Prometheus' operator refuses a scrape that may take longer than the time between two.
    assert int(monitor["scrapeTimeout"][:-1]) <= interval
    assert monitor["honorLabels"] is False
    assert monitor["additionalLabels"] == {"release": "metrics"}


def test_the_exporters_counters_are_three_columns_each() -> None:
    rows = [row.split(", ") for row in dcgm_exporter.counters().splitlines()]
    assert {len(row) for row in rows} == {3}
    assert {row.count(",") for row in dcgm_exporter.counters().splitlines()} == {2}
    names = [name for name, _, _ in rows]
    assert len(set(names)) == len(names)
    # What signals, alerts and the dashboard ask for.
    assert {
        "DCGM_FI_DEV_GPU_UTIL",
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "DCGM_FI_DEV_FB_USED",
        "DCGM_FI_DEV_FB_FREE",
        "DCGM_FI_DEV_FB_RESERVED",
        "DCGM_FI_DEV_GPU_TEMP",
        "DCGM_FI_DEV_POWER_USAGE",
        "DCGM_FI_DEV_XID_ERRORS",
        "DCGM_EXP_XID_ERRORS_COUNT",
    } <= set(names)


@pytest.mark.parametrize(("mode", "enabled"), [("install", True), ("existing", True), ("none", False)])
def test_the_gpu_operator_brings_its_exporter_unless_none_is_wanted(mode: str, enabled: bool) -> None:
    metrics = GpuMetrics(mode=cast(Any, mode))
    values = gpu_operator.values(DevicePlugin(), metrics, NODES, Prometheus.of(EXISTING), PLAIN)
    assert at(values, "dcgmExporter.enabled") is enabled


def test_the_gpu_operator_leaves_a_driver_alone_unless_asked() -> None:
    prometheus_there = Prometheus.of(EXISTING)
    for plugin, expected in (
        (DevicePlugin(), (False, True)),
        (DevicePlugin(driver=True, toolkit=False), (True, False)),
    ):
        values = gpu_operator.values(plugin, GpuMetrics(), NODES, prometheus_there, PLAIN)
        assert (at(values, "driver.enabled"), at(values, "toolkit.enabled")) == expected


def matches(affinity: JsonObject, labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels is one that the affinity asks for, as the scheduler decides it."""
    terms = at(affinity, "nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms")
    return any(
        all(
            rule["key"] in labels and (rule["operator"] == "Exists" or labels[rule["key"]] in rule["values"])
            for rule in term["matchExpressions"]
        )
        for term in terms
    )


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ({"nvidia.com/gpu.present": "true"}, True),
        ({"nvidia.com/gpu.present": "false"}, False),
        ({"feature.node.kubernetes.io/pci-10de.present": "true"}, True),
        ({"cloud.google.com/gke-accelerator": "nvidia-l4"}, True),
        ({"kubernetes.azure.com/accelerator": "nvidia"}, True),
        ({"karpenter.k8s.aws/instance-gpu-manufacturer": "nvidia"}, True),
        ({"karpenter.k8s.aws/instance-gpu-manufacturer": "amd"}, False),
        ({"k8s.amazonaws.com/accelerator": "nvidia-l4"}, True),
        ({"pool": "gpu"}, True),
        ({"pool": "cpu", "kubernetes.io/os": "linux"}, False),
    ],
)
def test_nodes_with_gpus_are_found_without_feature_discovery(labels: dict[str, str], found: bool) -> None:
    nodes = GpuNodes.of({}, [POOL])
    assert matches(nodes.affinity, labels) is found
    # As the labels say, whoever else has labelled the node.
    assert matches(GpuNodes.of({"only": "these"}, [POOL]).affinity, labels) is False


def test_a_selector_is_met_whole() -> None:
    affinity = GpuNodes.of({"pool": "gpu", "zone": "a"}, []).affinity
    assert matches(affinity, {"pool": "gpu", "zone": "a"})
    assert not matches(affinity, {"pool": "gpu"})


def test_the_taints_of_all_pools_are_tolerated_once() -> None:
    other = replace(POOL, tolerations=(*POOL.tolerations, Toleration(taint="team")))
    assert GpuNodes.of({}, [POOL, other]).tolerations == [
        {"key": "nvidia.com/gpu", "operator": "Exists"},
        {"key": "spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
        {"key": "team", "operator": "Exists"},
    ]


def test_a_runtime_class_is_used_where_all_pools_have_it() -> None:
    plain = GpuPool(gpu="T4", total=1)
    assert GpuNodes.of({}, [POOL, POOL]).runtime_class == "nvidia"
    assert GpuNodes.of({}, [POOL, plain]).runtime_class is None
    assert GpuNodes.of({}, []).runtime_class is None
