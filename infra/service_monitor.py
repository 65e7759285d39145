"""The Prometheus operator's ServiceMonitor, as far as a model needs it."""

from dataclasses import dataclass

from infra.wire import JsonObject
from infra.workload import Workload


@dataclass(frozen=True, kw_only=True)
class ServiceMonitor:
    """Scrapes the pods behind the model's Service; interval in seconds."""

    workload: Workload
    interval: int

    def to_spec(self) -> JsonObject:
        return {
            "namespaceSelector": {"matchNames": [self.workload.namespace]},
            "selector": {"matchLabels": dict(self.workload.selector)},
            "endpoints": [{"port": self.workload.port_name, "path": "/metrics", "interval": f"{self.interval}s"}],
        }
