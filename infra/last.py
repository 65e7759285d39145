"""The last deployment of this stack, as its own outputs tell of it."""

from typing import TypedDict, cast

import pulumi

from infra.config.schema import HubWeights, StackConfig


class Release(TypedDict):
    """What one deployment served: the image by digest, and the revisions of models that come from the hub."""

    image: str
    revisions: dict[str, str]


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


def release(config: StackConfig, image: pulumi.Output[str]) -> pulumi.Output[Release]:
    """What this deployment serves."""
    revisions = {
        key: model.weights.revision for key, model in config.models.items() if isinstance(model.weights, HubWeights)
    }
    return image.apply(lambda reference: Release(image=reference, revisions=revisions))


def _previous(now: Release | None, last: Release | None, before: Release | None) -> Release | None:
    return before if last is None or last == now else last
