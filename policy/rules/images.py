"""Images are named by what is in them."""

import re
from collections.abc import Iterator

from .manifest import UNKNOWN, Resource, objects, value
from .pods import Pod, pod_of

DIGEST = re.compile(r"\S+@sha256:[0-9a-f]{64}")


def pinned(resource: Resource) -> Iterator[str]:
    """Images are named by digest: a tag can move under a running model."""
    pod = pod_of(resource)
    if pod is None:
        return
    for place, image in _images(pod):
        if image is not UNKNOWN and not (isinstance(image, str) and DIGEST.fullmatch(image)):
            yield f"{place}: {image or 'no image'} is not named by digest. Use <repository>@sha256:<digest>."


def _images(pod: Pod) -> Iterator[tuple[str, object]]:
    for container in pod.containers:
        yield f"container {container.name}", container.says("image")
    for volume in objects(pod.spec, "volumes"):
        if "image" in volume:
            yield f"volume {volume.get('name')}", value(volume, "image", "reference")
