"""Where the weights of a model come from."""

# ruff: noqa: RUF009 -- key() makes the field itself; it is no default that instances would share

from dataclasses import dataclass
from typing import ClassVar, Literal

from infra.config.parsing import key
from infra.config.schema.names import (
    BY_DIGEST,
    DNS_LABEL,
    HTTP_ADDRESS,
    IMAGE_DIGEST,
    MEMORY_QUANTITY,
    NODE_NAME,
    OBJECT_NAME,
)


@dataclass(frozen=True, kw_only=True)
class NodeDiskWeights:
    """A directory on one node's disk, offered to the pods by a PersistentVolume that the stack makes."""

    TAG: ClassVar[str] = "node-disk"

    path: str = key("the model's directory on the node", pattern=r"/\S+", looks="an absolute path")
    node: str = key("the node's label kubernetes.io/hostname", pattern=NODE_NAME, looks="a node's name")


@dataclass(frozen=True, kw_only=True)
class PvcWeights:
    """A PersistentVolumeClaim that is there already, in the stack's namespace."""

    TAG: ClassVar[str] = "pvc"

    claim: str = key("the name of the PersistentVolumeClaim", pattern=DNS_LABEL, looks="a DNS label")
    directory: str | None = key(
        "the model's directory in the volume; its root when left out",
        default=None,
        pattern=r"[^/\s]\S*",
        looks="a relative path",
    )


@dataclass(frozen=True, kw_only=True)
class CacheVolume:
    """A PersistentVolumeClaim that the stack makes, in which downloads outlive their pods."""

    size: str = key("the volume's size", pattern=MEMORY_QUANTITY, looks="a size such as 50Gi")
    storage_class: str | None = key(
        "the storage class; the cluster's default when left out",
        default=None,
        pattern=OBJECT_NAME,
        looks="a storage class's name",
    )
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce"] = key(
        "ReadWriteMany where several nodes share it, ReadWriteOnce where all replicas run on one node",
        default="ReadWriteMany",
    )


@dataclass(frozen=True, kw_only=True)
class HubWeights:
    """A repository of the model hub, downloaded when a pod starts."""

    TAG: ClassVar[str] = "hub"

    repository: str = key("the repository, owner/name", pattern=r"[\w.-]+/[\w.-]+", looks="owner/name")
    revision: str = key(
        "the commit of the repository", pattern=r"[0-9a-f]{40}", looks="a commit of 40 hex digits (a branch can move)"
    )
    token: str | None = key("the hub's access token, for a gated repository", default=None, secret=True)
    endpoint: str | None = key(
        "the address of a hub of one's own", default=None, pattern=HTTP_ADDRESS, looks="an http or https address"
    )
    cache: CacheVolume | None = key("a volume that keeps the download; every pod downloads anew without", default=None)


@dataclass(frozen=True, kw_only=True)
class S3Weights:
    """A prefix in an S3-compatible storage, fetched by an init container."""

    TAG: ClassVar[str] = "s3"

    bucket: str = key("the bucket", pattern=r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", looks="a bucket's name")
    prefix: str = key(
        "the model's directory in the bucket", pattern=r"[^/\s](\S*[^/\s])?", looks="a path without ends of /"
    )
    endpoint: str | None = key(
        "the storage's address; Amazon's when left out",
        default=None,
        pattern=HTTP_ADDRESS,
        looks="an http or https address",
    )
    region: str | None = key("the storage's region", default=None)
    access_key: str | None = key("the access key; the pod's cloud identity when left out", default=None)
    secret_key: str | None = key("the access key's secret", default=None, secret=True)
    size: str | None = key(
        "room for the files on the node, where there is no cache",
        default=None,
        pattern=MEMORY_QUANTITY,
        looks="a size such as 20Gi",
    )
    cache: CacheVolume | None = key("a volume that keeps the files; every pod fetches anew without", default=None)


@dataclass(frozen=True, kw_only=True)
class OciWeights:
    """An OCI image or artifact with the model's files, mounted as a volume (Kubernetes 1.36, or the feature ImageVolume)."""

    TAG: ClassVar[str] = "oci"

    reference: str = key("the image, repository@sha256:<64 hex digits>", pattern=IMAGE_DIGEST, looks=BY_DIGEST)
    directory: str | None = key(
        "the model's directory in the image; its root when left out",
        default=None,
        pattern=r"[^/\s]\S*",
        looks="a relative path",
    )


@dataclass(frozen=True, kw_only=True)
class BakedWeights:
    """A directory of the server's own image."""

    TAG: ClassVar[str] = "baked"

    path: str = key("the model's directory in the image", pattern=r"/\S+", looks="an absolute path")


Weights = NodeDiskWeights | PvcWeights | HubWeights | S3Weights | OciWeights | BakedWeights
