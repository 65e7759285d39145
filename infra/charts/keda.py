"""KEDA: chart keda."""

from infra.charts import KEEP
from infra.charts.images import Images
from infra.prometheus import Prometheus
from infra.wire import JsonObject

OPERATOR = "keda-operator"


def values(prometheus: Prometheus, images: Images) -> JsonObject:
    """The values of keda.

    Two operators, on two nodes where there are two: one works, the other takes over in seconds. One alone is only
    missed when its node has been away for five minutes, and nothing scales until then.
    """
    scraped: JsonObject = {
        "enabled": True,
        "serviceMonitor": {"enabled": True, "additionalLabels": dict(prometheus.selector_labels)},
    }
    return {
        "crds": {"additionalAnnotations": KEEP},
        "global": {"image": {"registry": images.registry}},
        # The tags are versions: pulling them again at each start only makes the registry a point of failure.
        "image": {"pullPolicy": "IfNotPresent"},
        "imagePullSecrets": images.pull_secrets,
        "operator": {"replicaCount": 2},
        "podDisruptionBudget": {"operator": {"maxUnavailable": 1}},
        "topologySpreadConstraints": {
            "operator": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"app": OPERATOR}},
                }
            ]
        },
        "prometheus": {"operator": scraped, "metricServer": scraped, "webhooks": scraped},
    }
