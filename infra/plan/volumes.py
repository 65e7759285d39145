"""Whether the volumes that the stack makes for weights hold them."""

from collections.abc import Iterator

from infra.config.schema import HubWeights, S3Weights, StackConfig
from infra.findings import Finding, error
from infra.plan.fit.check import size
from infra.quantity import bytes_of


def findings(config: StackConfig, key: str, checkpoint_bytes: int | None) -> Iterator[Finding]:
    """A volume that is smaller than the weights which it shall keep."""
    weights = config.models[key].weights
    if checkpoint_bytes is None or not isinstance(weights, HubWeights | S3Weights):
        return
    scratch = weights.size if isinstance(weights, S3Weights) else None
    sizes = {"cache.size": weights.cache.size if weights.cache is not None else None, "size": scratch}
    for name, given in sizes.items():
        if given is not None and bytes_of(given) < checkpoint_bytes:
            yield error(
                f"models.{key}.weights.{name}",
                given,
                f"is less than the model's weights, {size(checkpoint_bytes)}",
                "Give room for them and the files beside them.",
            )
