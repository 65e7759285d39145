"""The pods of a model."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra import lifecycle as times
from infra.config.schema import Model
from infra.lifecycle import Lifecycle
from infra.runtime import ALIVE_PATH, READY_PATH, USER_ID, WRITABLE_PATHS, Runtime
from infra.weights import MOUNT_PATH, ModelSource
from infra.workload import Workload

WEIGHTS_VOLUME = "weights"


@dataclass(frozen=True, kw_only=True)
class ModelServerArgs:
    """Which model, from which image and weights; ``after``: what must be there first."""

    workload: Workload
    model: Model
    source: ModelSource
    image: pulumi.Input[str]
    namespace: pulumi.Input[str]
    after: tuple[pulumi.Resource, ...]


class ModelServer(pulumi.ComponentResource):
    """The Deployment of a model, and the identity its pods run under."""

    deployment: k8s.apps.v1.Deployment

    def __init__(self, name: str, args: ModelServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:ModelServer", name, None, opts)
        workload = args.workload
        lifecycle = Lifecycle.of(args.model.timing, args.model.scaling)
        metadata = k8s.meta.v1.ObjectMetaArgs(name=workload.name, namespace=args.namespace, labels=workload.labels)
        account = k8s.core.v1.ServiceAccount(
            name, metadata=metadata, automount_service_account_token=False, opts=pulumi.ResourceOptions(parent=self)
        )
        timeout = f"{lifecycle.deployment_timeout}s"
        self.deployment = k8s.apps.v1.Deployment(
            name,
            metadata=metadata,
            # No `replicas`: they are the autoscaler's.
            spec=k8s.apps.v1.DeploymentSpecArgs(
                selector=k8s.meta.v1.LabelSelectorArgs(match_labels=workload.selector),
                strategy=k8s.apps.v1.DeploymentStrategyArgs(
                    type="RollingUpdate",
                    rolling_update=k8s.apps.v1.RollingUpdateDeploymentArgs(max_unavailable=0, max_surge=1),
                ),
                progress_deadline_seconds=lifecycle.progress_deadline,
                template=k8s.core.v1.PodTemplateSpecArgs(
                    metadata=k8s.meta.v1.ObjectMetaArgs(labels=workload.labels), spec=_pod(args, lifecycle)
                ),
            ),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[account, *args.after],
                custom_timeouts=pulumi.CustomTimeouts(create=timeout, update=timeout),
            ),
        )
        self.register_outputs({})


def _pod(args: ModelServerArgs, lifecycle: Lifecycle) -> k8s.core.v1.PodSpecArgs:
    volumes = [
        k8s.core.v1.VolumeArgs(name=name, empty_dir=k8s.core.v1.EmptyDirVolumeSourceArgs()) for name in WRITABLE_PATHS
    ]
    if args.source.claim is not None:
        claim = k8s.core.v1.PersistentVolumeClaimVolumeSourceArgs(claim_name=args.source.claim, read_only=True)
        volumes.append(k8s.core.v1.VolumeArgs(name=WEIGHTS_VOLUME, persistent_volume_claim=claim))
    return k8s.core.v1.PodSpecArgs(
        service_account_name=args.workload.name,
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=lifecycle.grace,
        security_context=k8s.core.v1.PodSecurityContextArgs(
            run_as_non_root=True,
            run_as_user=USER_ID,
            run_as_group=USER_ID,
            seccomp_profile=k8s.core.v1.SeccompProfileArgs(type="RuntimeDefault"),
        ),
        containers=[_container(args, lifecycle)],
        volumes=volumes,
    )


def _container(args: ModelServerArgs, lifecycle: Lifecycle) -> k8s.core.v1.ContainerArgs:
    workload, model = args.workload, args.model
    runtime = Runtime.of(workload=workload, model=model, source=args.source, lifecycle=lifecycle)
    mounts = [k8s.core.v1.VolumeMountArgs(name=name, mount_path=path) for name, path in WRITABLE_PATHS.items()]
    if args.source.claim is not None:
        mounts.append(k8s.core.v1.VolumeMountArgs(name=WEIGHTS_VOLUME, mount_path=MOUNT_PATH, read_only=True))
    return k8s.core.v1.ContainerArgs(
        name=workload.container,
        image=args.image,
        env=[k8s.core.v1.EnvVarArgs(name=name, value=value) for name, value in runtime.environment.items()],
        ports=[k8s.core.v1.ContainerPortArgs(name=workload.port_name, container_port=workload.port, protocol="TCP")],
        resources=_resources(model),
        startup_probe=_probe(workload, READY_PATH, times.STARTUP_PERIOD_SECONDS, lifecycle.startup_failures),
        readiness_probe=_probe(workload, READY_PATH, times.READINESS_PERIOD_SECONDS, times.READINESS_FAILURES),
        liveness_probe=_probe(workload, ALIVE_PATH, times.LIVENESS_PERIOD_SECONDS, times.LIVENESS_FAILURES),
        lifecycle=k8s.core.v1.LifecycleArgs(
            pre_stop=k8s.core.v1.LifecycleHandlerArgs(sleep=k8s.core.v1.SleepActionArgs(seconds=lifecycle.pre_stop))
        ),
        security_context=k8s.core.v1.SecurityContextArgs(
            allow_privilege_escalation=False,
            read_only_root_filesystem=model.read_only_root,
            capabilities=k8s.core.v1.CapabilitiesArgs(drop=["ALL"]),
        ),
        volume_mounts=mounts,
        # Why a server ended stands in its pod's status, where the update's error and `kubectl describe` show it.
        termination_message_policy="FallbackToLogsOnError",
    )


def _resources(model: Model) -> k8s.core.v1.ResourceRequirementsArgs:
    # No CPU limit: a server that may use idle cores answers sooner, and the reservation protects its neighbours.
    gpus = {model.gpus.resource: str(model.gpus.count)} if model.gpus.count else {}
    return k8s.core.v1.ResourceRequirementsArgs(
        requests={"cpu": model.resources.cpu, "memory": model.resources.memory, **gpus},
        limits={"memory": model.resources.memory_limit, **gpus},
    )


def _probe(workload: Workload, path: str, period: int, failures: int) -> k8s.core.v1.ProbeArgs:
    return k8s.core.v1.ProbeArgs(
        http_get=k8s.core.v1.HTTPGetActionArgs(path=path, port=workload.port_name),
        period_seconds=period,
        timeout_seconds=times.PROBE_TIMEOUT_SECONDS,
        failure_threshold=failures,
    )
