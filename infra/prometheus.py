"""The Prometheus that scrapes the models and answers KEDA, wherever it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass

from infra.config.schema import ExistingMonitoring, InstallMonitoring, Monitoring

# What the names of everything that the installed monitoring brings begin with; the chart cuts it after 26 characters.
NAME = "llm-stack"
PORT = 9090
# What the operator puts on the pods of every Prometheus, wherever it comes from.
POD_LABELS = {"app.kubernetes.io/name": "prometheus"}


@dataclass(frozen=True, kw_only=True)
class Prometheus:
    """Where Prometheus is, and by which labels it selects ServiceMonitors and rules.

    ``address`` is known before anything is installed, so that a preview shows the scalers as they will be.
    """

    address: str
    namespace: str
    selector_labels: Mapping[str, str]
    scrape_interval_seconds: int
    bearer_token: str | None

    @classmethod
    def of(cls, monitoring: Monitoring) -> "Prometheus":
        match monitoring:
            case InstallMonitoring():
                return cls(
                    address=f"http://{NAME}-prometheus.{monitoring.namespace}.svc:{PORT}",
                    namespace=monitoring.namespace,
                    selector_labels={},  # it selects all of them
                    scrape_interval_seconds=monitoring.scrape_interval_seconds,
                    bearer_token=None,
                )
            case ExistingMonitoring():
                return cls(
                    address=monitoring.prometheus_address,
                    namespace=monitoring.namespace,
                    selector_labels=monitoring.service_monitor_labels,
                    scrape_interval_seconds=monitoring.scrape_interval_seconds,
                    bearer_token=monitoring.bearer_token,
                )
