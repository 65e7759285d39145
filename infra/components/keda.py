"""KEDA in the cluster."""

import pulumi

from infra.config import schema


class Keda(pulumi.ComponentResource):
    """KEDA as the cluster has it: nothing is created, and every scaler depends on it."""

    def __init__(self, name: str, args: schema.Keda, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:Keda", name, None, opts)
        self.register_outputs({"mode": args.mode})
