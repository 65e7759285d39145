"""Where a server finds its weights, whatever they come from."""

import hashlib
from dataclasses import dataclass

from infra.config.schema import HubWeights, NodeDiskWeights, PvcWeights, Weights
from infra.workload import Workload

MOUNT_PATH = "/models"
PLACE_DIGITS = 8  # of a hash: enough to tell the places of one model apart


def node_disk_claim(weights: NodeDiskWeights, workload: Workload) -> str:
    """The name of the claim for a directory on a node.

    A volume cannot move: another directory or node is another volume and claim, made before the pods leave the old ones.
    """
    place = hashlib.sha256(f"{weights.node}\0{weights.path}".encode()).hexdigest()[:PLACE_DIGITS]
    return f"{workload.name}-weights-{place}"


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
                return cls(model=MOUNT_PATH, claim=node_disk_claim(weights, workload))
            case PvcWeights(claim=claim, directory=directory):
                return cls(model=f"{MOUNT_PATH}/{directory}" if directory else MOUNT_PATH, claim=claim)
            case HubWeights(repository=repository, revision=revision):
                return cls(model=repository, revision=revision)
