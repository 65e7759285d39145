"""The rules of what a cluster has once for all models: GPUs, KEDA, kube-state-metrics."""

from dataclasses import dataclass

from infra.observability.rules import AlertRule, RuleGroup, rules_spec
from infra.wire import JsonObject

ABSENT = 600  # seconds: a rollout of the exporter itself is shorter
GPU_NODE_ABSENT = 900  # seconds until a new node's exporter has started (driver, image, first look)
HOT = 85  # degrees Celsius; data-centre GPUs slow down a few degrees above
HOT_LASTING = 600  # seconds
# What tells one GPU from another. The exporter calls the node Hostname up to 4.8, and hostname after.
GPU = "Hostname, hostname, gpu, UUID, modelName"
GPU_NAMED = (
    "GPU {{ $labels.gpu }} ({{ $labels.modelName }}, {{ $labels.UUID }}) of node "
    "{{ $labels.Hostname }}{{ $labels.hostname }}"
)
XID = f"max by ({GPU}, err_code, err_msg)"


@dataclass(frozen=True, kw_only=True)
class PlatformRules:
    """The cluster's PrometheusRule. ``gpus``: whether the DCGM exporter is to be there; ``runbooks``: as of a model's."""

    gpus: bool
    runbooks: str

    def to_spec(self) -> JsonObject:
        return rules_spec(self.groups, self.runbooks)

    @property
    def groups(self) -> tuple[RuleGroup, ...]:
        gpus = (RuleGroup(name="llm-stack.gpus", rules=_gpus()),) if self.gpus else ()
        return (RuleGroup(name="llm-stack.platform", rules=_platform()), *gpus)


def _platform() -> tuple[AlertRule, ...]:
    return (
        AlertRule(
            name="LlmKedaAbsent",
            expression="absent(keda_build_info)",
            severity="page",
            lasting=ABSENT,
            summary="The autoscaler (KEDA) is gone, or Prometheus does not see it",
            description="Nobody adds replicas when load comes, and no alert about autoscaling can be trusted.",
        ),
        AlertRule(
            name="LlmKubeStateMetricsAbsent",
            expression="absent(kube_deployment_spec_replicas)",
            severity="page",
            lasting=ABSENT,
            summary="Prometheus does not know the state of the cluster (kube-state-metrics is gone)",
            description="Models that are down or starved of GPUs would not be told.",
        ),
    )


def _gpus() -> tuple[AlertRule, ...]:
    nodes = 'count(count by (node) (kube_node_status_allocatable{resource=~"nvidia_com_(gpu|mig_).*"} > 0))'
    return (
        AlertRule(
            name="LlmGpuMetricsAbsent",
            expression=f"{nodes} > (count(count by (instance) (DCGM_FI_DEV_GPU_TEMP)) or vector(0))",
            severity="ticket",
            lasting=GPU_NODE_ABSENT,
            summary="GPUs are not watched (the DCGM exporter is missing on some node)",
            description="{{ $value }} nodes offer GPUs, and fewer exporters are scraped.",
        ),
        AlertRule(
            name="LlmGpuTooHot",
            expression=f"max by ({GPU}) (DCGM_FI_DEV_GPU_TEMP) > {HOT}",
            severity="ticket",
            lasting=HOT_LASTING,
            summary="A GPU is too hot and may slow down",
            description=f"{GPU_NAMED} has {{{{ $value }}}} degrees Celsius.",
        ),
        AlertRule(
            name="LlmGpuXid",
            # The gauge is not there before the first fault and keeps its code for ever after: what counts is a code that
            # was not there on this GPU for a day. Labels of pods are left out, for the next pod inherits the code.
            expression=f"{XID} (DCGM_FI_DEV_XID_ERRORS) > 0\n"
            f"  unless {XID} (max_over_time(DCGM_FI_DEV_XID_ERRORS[1d] offset 30m)) > 0",
            severity="ticket",
            lasting=0,
            summary="A GPU reported a fault",
            description=f"{GPU_NAMED} reported XID {{{{ $value }}}} ({{{{ $labels.err_msg }}}}).",
        ),
    )
