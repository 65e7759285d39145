"""Prometheus, Alertmanager and Grafana: charts prometheus-operator-crds and kube-prometheus-stack."""

from infra.charts import KEEP
from infra.charts.images import Images
from infra.config.schema import InstallMonitoring
from infra.prometheus import NAME
from infra.quantity import BINARY_UNITS, bytes_of
from infra.wire import JsonObject

# A ConfigMap with this label and value, in any namespace, is a dashboard of Grafana.
DASHBOARD_LABEL, DASHBOARD_VALUE = "grafana_dashboard", "1"
GRAFANA = f"{NAME}-grafana"

# The Secret with the address that alerts are posted to, and where Alertmanager finds it.
WEBHOOK_SECRET = "alertmanager-webhook"
WEBHOOK_KEY = "url"
WEBHOOK_FILE = f"/etc/alertmanager/secrets/{WEBHOOK_SECRET}/{WEBHOOK_KEY}"
SILENT = "null"

# The oldest measurements go before the volume is full: its write-ahead log and a compaction need room too.
USABLE_PERCENT = 85
# Silences, and which alerts were told already: some kilobytes, and the smallest volume that every cloud offers.
ALERTMANAGER_STORAGE = "1Gi"
# So that Prometheus is not the first to go from a node short of memory; it may use more.
PROMETHEUS_REQUESTS = {"cpu": "250m", "memory": "1Gi"}


def crd_values() -> JsonObject:
    """The values of prometheus-operator-crds: as templates of a release, definitions are upgraded with it."""
    return {"crds": {"annotations": KEEP}}


def values(monitoring: InstallMonitoring, images: Images) -> JsonObject:
    """The values of kube-prometheus-stack.

    Prometheus selects every ServiceMonitor and rule of the cluster, not only those of its own release. What a provider
    runs for the cluster (etcd, scheduler, controller manager) and kube-proxy cannot be scraped there: they are left
    out, or their alerts would never end.
    """
    absent: JsonObject = {"enabled": False}
    everything = {
        f"{kind}SelectorNilUsesHelmValues": False
        for kind in ("serviceMonitor", "podMonitor", "probe", "rule", "scrapeConfig")
    }
    return {
        "fullnameOverride": NAME,
        "global": {"imageRegistry": images.registry, "imagePullSecrets": images.pull_secrets},
        "crds": {"enabled": False},
        "kubeEtcd": absent,
        "kubeScheduler": absent,
        "kubeControllerManager": absent,
        "kubeProxy": absent,
        "prometheus": {
            "prometheusSpec": {
                **everything,
                "retention": f"{monitoring.retention_days}d",
                "retentionSize": _usable(monitoring.storage),
                "storageSpec": _volume(monitoring.storage, monitoring.storage_class),
                "resources": {"requests": PROMETHEUS_REQUESTS},
            }
        },
        "alertmanager": _alertmanager(monitoring),
        # Its password is drawn by the chart at the first install and stays; it is in the Secret of this name.
        "grafana": {
            "enabled": monitoring.grafana,
            "fullnameOverride": GRAFANA,
            "sidecar": {
                "dashboards": {
                    "enabled": True,
                    "label": DASHBOARD_LABEL,
                    "labelValue": DASHBOARD_VALUE,
                    "searchNamespace": "ALL",
                }
            },
        },
    }


def _alertmanager(monitoring: InstallMonitoring) -> JsonObject:
    spec: JsonObject = {"storage": _volume(ALERTMANAGER_STORAGE, monitoring.storage_class)}
    if monitoring.alert_webhook is None:
        return {"alertmanagerSpec": spec}
    return {
        "alertmanagerSpec": {**spec, "secrets": [WEBHOOK_SECRET]},
        "config": {
            "route": {
                "receiver": "webhook",
                "group_by": ["namespace", "alertname"],
                # Alerts about the alerting itself: one that always fires, and one that only mutes others.
                "routes": [{"receiver": SILENT, "matchers": ['alertname =~ "Watchdog|InfoInhibitor"']}],
            },
            "receivers": [
                {"name": SILENT},
                {"name": "webhook", "webhook_configs": [{"url_file": WEBHOOK_FILE, "send_resolved": True}]},
            ],
        },
    }


def _volume(size: str, storage_class: str | None) -> JsonObject:
    spec: JsonObject = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return {"volumeClaimTemplate": {"spec": spec}}


def _usable(storage: str) -> str:
    """What of a volume of size ``storage`` measurements may fill, as Prometheus reads it."""
    return f"{bytes_of(storage) * USABLE_PERCENT // 100 // BINARY_UNITS['Mi']}MiB"
