"""Where a server finds its weights, whatever they come from."""

from dataclasses import dataclass

from infra.config.schema import HubWeights, NodeDiskWeights, PvcWeights, Weights
from infra.workload import Workload

MOUNT_PATH = "/models"


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """The server's model: a directory of a mounted claim, or a pinned repository of the hub."""

    model: str
    revision: str | None = None
    claim: str | None = None

    @classmethod
    def of(cls, weights: Weights, workload: Workload) -> "ModelSource":
        match weights:
            case NodeDiskWeights():
                return cls(model=MOUNT_PATH, claim=workload.claim)
            case PvcWeights(claim=claim, directory=directory):
                return cls(model=f"{MOUNT_PATH}/{directory}" if directory else MOUNT_PATH, claim=claim)
            case HubWeights(repository=repository, revision=revision):
                return cls(model=repository, revision=revision)
