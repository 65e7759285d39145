"""Where images and charts come from."""

# ruff: noqa: RUF009 -- key() makes the field itself; it is no default that instances would share

from dataclasses import dataclass
from typing import ClassVar, Literal

from infra.config.parsing import key
from infra.config.schema.names import BY_DIGEST, DNS_LABEL, IMAGE_DIGEST, OBJECT_NAME, REPOSITORY


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Who may push to and pull from the registry of the server's image."""

    server: str = key("the registry's address, such as registry.example.org", pattern=r"[^/\s]+", looks="a host")
    username: str = key("the user")
    password: str = key("the user's password or token", secret=True)


@dataclass(frozen=True, kw_only=True)
class BuildImage:
    """The server's image is built from this repository and pushed."""

    TAG: ClassVar[str] = "build"

    repository: str = key(
        "the image repository to push to, without a tag, such as registry.example.org/team/llm-server",
        pattern=REPOSITORY,
        looks="registry/path without a tag",
    )
    base_image: str | None = key("the image to build on; the Dockerfile's own when left out", default=None)
    platform: Literal["linux/amd64", "linux/arm64"] | None = key(
        "the nodes' platform; the builder's own when left out", default=None
    )
    cache_from: tuple[str, ...] = key(
        "images whose layers may be reused, such as the one that another builder pushed", default=()
    )
    registry: Registry | None = key(
        "credentials of the registry, for the push and for the pods; without them, the builder's own login",
        default=None,
    )
    pull_secrets: tuple[str, ...] = key(
        "Secrets of the models' namespace with which pods pull the image",
        default=(),
        pattern=OBJECT_NAME,
        looks="a Secret's name",
    )


@dataclass(frozen=True, kw_only=True)
class PrebuiltImage:
    """The server's image exists already."""

    TAG: ClassVar[str] = "prebuilt"

    reference: str = key(
        "an image reference that names a digest, repository@sha256:<64 hex digits>",
        pattern=IMAGE_DIGEST,
        looks=BY_DIGEST,
    )
    registry: Registry | None = key("credentials with which the pods pull the image", default=None)
    pull_secrets: tuple[str, ...] = key(
        "Secrets of the models' namespace with which pods pull the image",
        default=(),
        pattern=OBJECT_NAME,
        looks="a Secret's name",
    )


Image = BuildImage | PrebuiltImage


@dataclass(frozen=True, kw_only=True)
class PublisherCharts:
    """Every chart comes from the repository of its publisher."""

    TAG: ClassVar[str] = "publishers"


@dataclass(frozen=True, kw_only=True)
class FolderCharts:
    """Every chart is a .tgz file in a folder: no network is needed."""

    TAG: ClassVar[str] = "folder"

    path: str = key("the folder with the charts' .tgz files, relative to the project")


@dataclass(frozen=True, kw_only=True)
class MirrorCharts:
    """Every chart comes from an OCI registry of one's own."""

    TAG: ClassVar[str] = "mirror"

    registry: str = key(
        "the registry path below which the charts are, such as oci://registry.example.org/charts",
        pattern=r"oci://[^\s]+[^/\s]",
        looks="an address that begins with oci://",
    )


Charts = PublisherCharts | FolderCharts | MirrorCharts


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A registry of one's own for the images that charts bring."""

    images: str = key(
        "the registry that stands in for docker.io, quay.io, ghcr.io, nvcr.io and registry.k8s.io, paths kept",
        pattern=r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*",
        looks="a registry with or without a path",
    )
    registry: Registry | None = key(
        "credentials of the mirror; the stack puts them into each namespace that it makes for the platform",
        default=None,
    )
    pull_secret: str | None = key(
        "the name of a pull Secret that something else puts into every namespace",
        default=None,
        pattern=DNS_LABEL,
        looks="a DNS label",
    )
