"""The policy pack: every rule under its name."""

from pack import Inputs, recorder, resource_policy, stack_policy
from pulumi_policy import EnforcementLevel, PolicyPack
from rules import autoscalers, charts, credentials, endpoints, gpus, images, limits, pods

# More than the examples of this project hold; a stack that needs more says so in the pack's configuration.
GPUS = {"type": "integer", "minimum": 0, "default": 16}
VENDORS = {"type": "array", "items": {"type": "string"}, "default": list(gpus.VENDORS)}
NAMESPACES = {"type": "array", "items": {"type": "string"}, "default": []}

inputs = Inputs()
PolicyPack(
    name="llm-stack",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[
        recorder(inputs),
        resource_policy("images-pinned", images.pinned),
        resource_policy("limits-set", limits.limited),
        resource_policy("secrets-sealed", credentials.sealed),
        resource_policy("charts-pinned", charts.versioned),
        resource_policy("autoscaler-answerable", autoscalers.answerable),
        stack_policy("replicas-left-alone", autoscalers.replicas_left_alone, inputs),
        stack_policy("pods-unprivileged", pods.unprivileged, inputs, {"privileged_namespaces": NAMESPACES}),
        stack_policy("gpus-bounded", gpus.bounded, inputs, {"maximum": GPUS, "vendors": VENDORS}),
        stack_policy("endpoints-guarded", endpoints.guarded, inputs),
    ],
)
