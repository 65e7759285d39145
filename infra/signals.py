"""What a model is scaled on: typed signals and the PromQL that KEDA asks for them.

KEDA wants exactly one series, so every query is one ``sum`` without ``by``. A sum over the pods grows with the load and
not with the number of pods; the autoscaler has to divide it by the replicas, which is what ``AverageValue`` says. An
average under ``AverageValue`` would be divided twice and never ask for more than two replicas; so no signal can choose
another kind of target.
"""

import json
from dataclasses import dataclass
from typing import ClassVar, Literal

from infra.config.schema import Scaling
from infra.workload import Workload
from service.metric_names import MODEL_NAME_LABEL, REQUESTS_RUNNING, REQUESTS_WAITING


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A gauge that every pod of the model exposes, summed over the pods.

    ``per_replica`` is the amount that one replica should carry; above it another one is wanted.
    """

    metric_type: ClassVar[Literal["AverageValue"]] = "AverageValue"

    name: str
    metric: str
    per_replica: float

    def query(self, workload: Workload) -> str:
        """One series, or none where no pod of the model was scraped (which must not read as "no load").

        The Prometheus operator writes ``namespace`` and ``service`` on what a ServiceMonitor finds; the server itself
        writes the model's name.
        """
        labels = {"namespace": workload.namespace, "service": workload.name, MODEL_NAME_LABEL: workload.served_model}
        matchers = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
        return f"sum({self.metric}{{{matchers}}})"


def signals(scaling: Scaling) -> tuple[Signal, ...]:
    """Queued requests show load that is not served; running ones show it before it queues."""
    return (
        Signal(name="waiting", metric=REQUESTS_WAITING, per_replica=scaling.waiting_per_replica),
        Signal(name="running", metric=REQUESTS_RUNNING, per_replica=scaling.running_per_replica),
    )
