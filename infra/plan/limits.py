"""Limits of a server that its runtime does not keep."""

from collections.abc import Iterator

from infra.config.schema import Server, StackConfig, VllmRuntime
from infra.findings import Finding, warning


def findings(config: StackConfig, key: str) -> Iterator[Finding]:
    """A limit that somebody has set, and vLLM knows nothing of."""
    model = config.models[key]
    most = model.server.max_waiting_requests
    if isinstance(model.runtime, VllmRuntime) and most != Server.max_waiting_requests:
        yield warning(
            f"models.{key}.server.max_waiting_requests",
            most,
            "has no effect: vLLM's queue has no end, and nobody is refused",
            "Leave it out, and limit requests where they enter the cluster.",
        )
