"""The last deployment of this stack, as its own outputs tell of it."""

from collections.abc import Iterator, Sequence
from typing import TypedDict, cast

import pulumi

from infra.config.schema import HubWeights, OciWeights, S3Weights, StackConfig, VllmRuntime


class Release(TypedDict):
    """What one deployment served: our image by digest, and by their keys the values that pin the models and other images."""

    image: str
    pins: dict[str, str]


class LastDeployment:
    """Outputs of the stack before this update; None where there was no deployment yet."""

    def __init__(self) -> None:
        name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
        self._outputs = pulumi.StackReference("last-deployment", stack_name=name)

    def output(self, name: str) -> pulumi.Output[object]:
        return cast(pulumi.Output[object], self._outputs.get_output(name))

    def previous(self, release: pulumi.Output[Release]) -> pulumi.Output[Release | None]:
        """The release to go back to: the last one that differs from this one."""
        known = pulumi.Output.all(release, self.output("release"), self.output("previous_release"))
        return known.apply(lambda releases: _previous(*cast(list[Release | None], releases)))


def release(
    config: StackConfig, image: pulumi.Output[str], served: Sequence[pulumi.Output[str]]
) -> pulumi.Output[Release]:
    """What this deployment serves; known once each of ``served`` is, so that an update that fails is no release."""
    pinned = dict(pins(config))
    return pulumi.Output.all(image, *served).apply(lambda known: Release(image=str(known[0]), pins=pinned))


def pins(config: StackConfig) -> Iterator[tuple[str, str]]:
    """By their keys, the values that say which files each model and which image each vLLM is."""
    for key, model in config.models.items():
        path = f"models.{key}"
        match model.weights:
            case HubWeights(repository=repository, revision=revision):
                yield f"{path}.weights.repository", repository
                yield f"{path}.weights.revision", revision
            case OciWeights(reference=reference):
                yield f"{path}.weights.reference", reference
            case S3Weights(bucket=bucket, prefix=prefix):
                yield f"{path}.weights.bucket", bucket
                yield f"{path}.weights.prefix", prefix
        if isinstance(model.runtime, VllmRuntime):
            yield f"{path}.runtime.image", model.runtime.image


def _previous(now: Release | None, last: Release | None, before: Release | None) -> Release | None:
    return before if last is None or last == now else last
