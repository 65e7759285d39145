"""Where a server finds its weights, whatever they come from."""

import hashlib
from dataclasses import dataclass, field

from infra.config.schema import (
    BakedWeights,
    CacheVolume,
    HubWeights,
    NodeDiskWeights,
    OciWeights,
    PvcWeights,
    S3Weights,
    Weights,
)
from infra.workload import Workload

MOUNT_PATH = "/models"
CACHE_PATH = "/cache"
PLACE_DIGITS = 8  # of a hash: enough to tell the places of one model apart
# Keys of the Secret with what the storage of the weights asks for.
HUB_TOKEN, S3_SECRET = "hub-token", "s3-secret-key"


@dataclass(frozen=True, kw_only=True)
class ClaimVolume:
    """A PersistentVolumeClaim."""

    claim: str
    read_only: bool = True


@dataclass(frozen=True, kw_only=True)
class ImageVolume:
    """The files of an image."""

    reference: str


@dataclass(frozen=True, kw_only=True)
class ScratchVolume:
    """Room on the node's disk that goes with the pod."""

    size: str


Volume = ClaimVolume | ImageVolume | ScratchVolume


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """The server's model: a directory, or a pinned repository of the hub.

    ``secrets`` maps environment variables to keys of the weights' Secret; ``fetch`` is the environment of the init container
    that brings the files, where one does.
    """

    model: str
    revision: str | None = None
    volume: Volume | None = None
    mount_path: str = MOUNT_PATH
    environment: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    fetch: dict[str, str] | None = None

    @classmethod
    def of(cls, weights: Weights, workload: Workload) -> "ModelSource":
        match weights:
            case NodeDiskWeights():
                return cls(model=MOUNT_PATH, volume=ClaimVolume(claim=node_disk_claim(weights, workload)))
            case PvcWeights(claim=claim, directory=directory):
                return cls(model=_below(directory), volume=ClaimVolume(claim=claim))
            case OciWeights(reference=reference, directory=directory):
                return cls(model=_below(directory), volume=ImageVolume(reference=reference))
            case BakedWeights(path=path):
                return cls(model=path)
            case HubWeights():
                return _hub(weights, workload)
            case S3Weights():
                return _s3(weights, workload)


def node_disk_claim(weights: NodeDiskWeights, workload: Workload) -> str:
    """The name of the claim for a directory on a node.

    A volume cannot move: another directory or node is another volume and claim, made before the pods leave the old ones.
    """
    return f"{workload.name}-weights-{_place(weights.node, weights.path)}"


def cache_of(weights: Weights) -> CacheVolume | None:
    """The volume that keeps downloads, where there is one."""
    return weights.cache if isinstance(weights, HubWeights | S3Weights) else None


def on_one_node(weights: Weights) -> bool:
    """Whether the weights' volume can be used by the pods of one node only."""
    cache = cache_of(weights)
    return cache is not None and cache.access_mode == "ReadWriteOnce"


def cache_claim(cache: CacheVolume, workload: Workload) -> str:
    """The name of the claim that keeps downloads.

    A claim cannot change its class or mode: others are another claim, made before the pods leave the old one. It can grow.
    """
    return f"{workload.name}-weights-cache-{_place(cache.storage_class or '', cache.access_mode)}"


def weights_secret(workload: Workload) -> str:
    """The name of the Secret for the storage of the weights."""
    return f"{workload.name}-weights"


def _place(*parts: str) -> str:
    """A short name for a place."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:PLACE_DIGITS]


def _cache_volume(cache: CacheVolume | None, workload: Workload) -> ClaimVolume | None:
    return None if cache is None else ClaimVolume(claim=cache_claim(cache, workload), read_only=False)


def _below(directory: str | None) -> str:
    return f"{MOUNT_PATH}/{directory}" if directory else MOUNT_PATH


def _hub(weights: HubWeights, workload: Workload) -> ModelSource:
    environment = {} if weights.endpoint is None else {"HF_ENDPOINT": weights.endpoint}
    if weights.cache is not None:
        environment["HF_HUB_CACHE"] = CACHE_PATH
    return ModelSource(
        model=weights.repository,
        revision=weights.revision,
        volume=_cache_volume(weights.cache, workload),
        mount_path=CACHE_PATH,
        environment=environment,
        secrets={} if weights.token is None else {"HF_TOKEN": HUB_TOKEN},
    )


def _s3(weights: S3Weights, workload: Workload) -> ModelSource:
    source = f"s3://{weights.bucket}/{weights.prefix}"
    # A volume outlives releases, and two of them serve during an update: another prefix is another directory.
    directory = f"{MOUNT_PATH}/{_place(weights.endpoint or '', source)}"
    fetch = {"SOURCE": source, "TARGET": directory}
    named = {
        "AWS_ENDPOINT_URL": weights.endpoint,
        "AWS_REGION": weights.region,
        "AWS_ACCESS_KEY_ID": weights.access_key,
    }
    fetch.update({name: value for name, value in named.items() if value is not None})
    return ModelSource(
        model=directory,
        # One of the two is given, never both.
        volume=_cache_volume(weights.cache, workload) if weights.size is None else ScratchVolume(size=weights.size),
        secrets={} if weights.secret_key is None else {"AWS_SECRET_ACCESS_KEY": S3_SECRET},
        fetch=fetch,
    )
