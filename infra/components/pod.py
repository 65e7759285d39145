"""The pod of a model: its containers, volumes and the nodes it may run on."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra import lifecycle as times
from infra.accelerator import Accelerator
from infra.config.schema import Model, Toleration
from infra.lifecycle import Lifecycle
from infra.runtime import KEYS_PATH, USER_ID, WRITABLE_PATHS, Runtime, api_keys_secret
from infra.weights import ClaimVolume, ImageVolume, ModelSource, ScratchVolume, Volume, weights_secret
from infra.workload import Workload

WEIGHTS_VOLUME, SHARED_MEMORY_VOLUME, KEYS_VOLUME = "weights", "shared-memory", "api-keys"
ZONE_LABEL, NODE_LABEL = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
FETCH_COMMAND = ("python", "-m", "service.fetch")


@dataclass(frozen=True, kw_only=True)
class PodArgs:
    """Which model, from which images and weights.

    ``image`` is the runtime's, ``own_image`` this project's, which also fetches weights.
    """

    workload: Workload
    model: Model
    source: ModelSource
    accelerator: Accelerator | None
    image: pulumi.Input[str]
    own_image: pulumi.Input[str]
    pull_secrets: tuple[str, ...]


def pod(args: PodArgs) -> k8s.core.v1.PodSpecArgs:
    """The pod, as restricted as Pod Security's highest level asks."""
    lifecycle = Lifecycle.of(args.model.timing, args.model.scaling)
    model, accelerator = args.model, args.accelerator
    runtime = Runtime.of(workload=args.workload, model=model, source=args.source, lifecycle=lifecycle)
    return k8s.core.v1.PodSpecArgs(
        service_account_name=args.workload.name,
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=lifecycle.grace,
        image_pull_secrets=[k8s.core.v1.LocalObjectReferenceArgs(name=secret) for secret in args.pull_secrets] or None,
        node_selector=node_selector(args),
        tolerations=tolerations(args),
        runtime_class_name=accelerator.runtime_class if accelerator else None,
        priority_class_name=model.placement.priority_class,
        topology_spread_constraints=_spread(args),
        security_context=restricted_pod(),
        init_containers=[_fetch(args)] if args.source.fetch is not None else None,
        containers=[_container(args, runtime, lifecycle)],
        volumes=_volumes(args, runtime),
    )


def node_selector(args: PodArgs) -> dict[str, str] | None:
    """The labels of the nodes that the model's pods run on."""
    pool = args.accelerator.node_selector if args.accelerator else {}
    return {**pool, **args.model.placement.node_selector} or None


def tolerations(args: PodArgs) -> list[k8s.core.v1.TolerationArgs] | None:
    """The taints of those nodes."""
    pool = args.accelerator.tolerations if args.accelerator else ()
    return [_toleration(toleration) for toleration in (*pool, *args.model.placement.tolerations)] or None


def _volumes(args: PodArgs, runtime: Runtime) -> list[k8s.core.v1.VolumeArgs]:
    volumes = [
        k8s.core.v1.VolumeArgs(name=name, empty_dir=k8s.core.v1.EmptyDirVolumeSourceArgs()) for name in WRITABLE_PATHS
    ]
    if args.source.volume is not None:
        volumes.append(_weights_volume(args.source.volume))
    if size := _shared_memory(args.model):
        memory = k8s.core.v1.EmptyDirVolumeSourceArgs(medium="Memory", size_limit=size)
        volumes.append(k8s.core.v1.VolumeArgs(name=SHARED_MEMORY_VOLUME, empty_dir=memory))
    if runtime.keys_mounted:
        secret = k8s.core.v1.SecretVolumeSourceArgs(secret_name=api_keys_secret(args.workload, args.model.api_keys))
        volumes.append(k8s.core.v1.VolumeArgs(name=KEYS_VOLUME, secret=secret))
    return volumes


def _weights_volume(volume: Volume) -> k8s.core.v1.VolumeArgs:
    match volume:
        case ClaimVolume(claim=claim, read_only=read_only):
            source = k8s.core.v1.PersistentVolumeClaimVolumeSourceArgs(claim_name=claim, read_only=read_only)
            return k8s.core.v1.VolumeArgs(name=WEIGHTS_VOLUME, persistent_volume_claim=source)
        case ImageVolume(reference=reference):
            image = k8s.core.v1.ImageVolumeSourceArgs(reference=reference, pull_policy="IfNotPresent")
            return k8s.core.v1.VolumeArgs(name=WEIGHTS_VOLUME, image=image)
        case ScratchVolume(size=size):
            scratch = k8s.core.v1.EmptyDirVolumeSourceArgs(size_limit=size)
            return k8s.core.v1.VolumeArgs(name=WEIGHTS_VOLUME, empty_dir=scratch)


def _container(args: PodArgs, runtime: Runtime, lifecycle: Lifecycle) -> k8s.core.v1.ContainerArgs:
    workload, model, source = args.workload, args.model, args.source
    mounts = _writable_mounts()
    if source.volume is not None:
        # The hub's cache is the one volume that the server itself writes to.
        read_only = source.fetch is not None or not isinstance(source.volume, ClaimVolume) or source.volume.read_only
        mounts.append(_mount(WEIGHTS_VOLUME, source.mount_path, read_only=read_only))
    if _shared_memory(model):
        mounts.append(_mount(SHARED_MEMORY_VOLUME, "/dev/shm"))
    if runtime.keys_mounted:
        mounts.append(_mount(KEYS_VOLUME, KEYS_PATH, read_only=True))
    secrets = _secret_variables(api_keys_secret(workload, model.api_keys), runtime.secrets)
    if source.fetch is None:
        secrets += _secret_variables(weights_secret(workload), source.secrets)
    return k8s.core.v1.ContainerArgs(
        name=workload.container,
        image=args.image,
        command=list(runtime.command) or None,
        env=[*_variables(runtime.environment), *secrets],
        ports=[k8s.core.v1.ContainerPortArgs(name=workload.port_name, container_port=workload.port, protocol="TCP")],
        resources=_resources(args),
        startup_probe=_probe(workload, runtime.ready_path, times.STARTUP_PERIOD_SECONDS, lifecycle.startup_failures),
        readiness_probe=_probe(workload, runtime.ready_path, times.READINESS_PERIOD_SECONDS, times.READINESS_FAILURES),
        liveness_probe=_probe(workload, runtime.alive_path, times.LIVENESS_PERIOD_SECONDS, times.LIVENESS_FAILURES),
        lifecycle=k8s.core.v1.LifecycleArgs(
            pre_stop=k8s.core.v1.LifecycleHandlerArgs(sleep=k8s.core.v1.SleepActionArgs(seconds=lifecycle.pre_stop))
        ),
        security_context=restricted_container(read_only_root=model.read_only_root),
        volume_mounts=mounts,
        # Why a server ended stands in its pod's status, where the update's error and `kubectl describe` show it.
        termination_message_policy="FallbackToLogsOnError",
    )


def _fetch(args: PodArgs) -> k8s.core.v1.ContainerArgs:
    """Brings the weights before the server starts; it needs no GPU, but the pod already holds one."""
    source, resources = args.source, args.model.resources
    return k8s.core.v1.ContainerArgs(
        name="fetch",
        image=args.own_image,
        command=list(FETCH_COMMAND),
        env=[
            *_variables(source.fetch or {}),
            *_secret_variables(weights_secret(args.workload), source.secrets),
        ],
        resources=k8s.core.v1.ResourceRequirementsArgs(
            requests={"cpu": resources.cpu, "memory": resources.memory}, limits={"memory": resources.memory_limit}
        ),
        security_context=restricted_container(read_only_root=True),
        volume_mounts=[*_writable_mounts(), _mount(WEIGHTS_VOLUME, source.mount_path)],
        termination_message_policy="FallbackToLogsOnError",
    )


def _spread(args: PodArgs) -> list[k8s.core.v1.TopologySpreadConstraintArgs] | None:
    spread = args.model.placement.spread
    if spread == "none":
        return None
    return [
        k8s.core.v1.TopologySpreadConstraintArgs(
            max_skew=1,
            topology_key=ZONE_LABEL if spread == "zone" else NODE_LABEL,
            # A wish: with few GPU nodes a replica on the same node is better than none.
            when_unsatisfiable="ScheduleAnyway",
            label_selector=k8s.meta.v1.LabelSelectorArgs(match_labels=args.workload.selector),
            match_label_keys=["pod-template-hash"],
        )
    ]


def _toleration(toleration: Toleration) -> k8s.core.v1.TolerationArgs:
    return k8s.core.v1.TolerationArgs(
        key=toleration.taint,
        operator="Exists" if toleration.value is None else "Equal",
        value=toleration.value,
        effect=toleration.effect,
    )


def _resources(args: PodArgs) -> k8s.core.v1.ResourceRequirementsArgs:
    # No CPU limit: a server that may use idle cores answers sooner, and the reservation protects its neighbours.
    resources, accelerator = args.model.resources, args.accelerator
    devices = {accelerator.resource: str(accelerator.count)} if accelerator else {}
    return k8s.core.v1.ResourceRequirementsArgs(
        requests={"cpu": resources.cpu, "memory": resources.memory, **devices},
        limits={"memory": resources.memory_limit, **devices},
    )


def _shared_memory(model: Model) -> str | None:
    if model.resources.shared_memory is not None:
        return model.resources.shared_memory
    return f"{model.gpus.count}Gi" if model.gpus.count > 1 else None


def restricted_pod() -> k8s.core.v1.PodSecurityContextArgs:
    """What Pod Security's level `restricted` asks of a pod."""
    return k8s.core.v1.PodSecurityContextArgs(
        run_as_non_root=True,
        run_as_user=USER_ID,
        run_as_group=USER_ID,
        # Volumes of the cluster belong to root; the server writes its downloads to them.
        fs_group=USER_ID,
        fs_group_change_policy="OnRootMismatch",
        seccomp_profile=k8s.core.v1.SeccompProfileArgs(type="RuntimeDefault"),
    )


def restricted_container(*, read_only_root: bool) -> k8s.core.v1.SecurityContextArgs:
    """What Pod Security's level `restricted` asks of a container."""
    return k8s.core.v1.SecurityContextArgs(
        allow_privilege_escalation=False,
        read_only_root_filesystem=read_only_root,
        capabilities=k8s.core.v1.CapabilitiesArgs(drop=["ALL"]),
    )


def _variables(values: Mapping[str, str]) -> list[k8s.core.v1.EnvVarArgs]:
    return [k8s.core.v1.EnvVarArgs(name=name, value=value) for name, value in values.items()]


def _secret_variables(secret: str, keys: Mapping[str, str]) -> list[k8s.core.v1.EnvVarArgs]:
    return [
        k8s.core.v1.EnvVarArgs(
            name=name,
            value_from=k8s.core.v1.EnvVarSourceArgs(
                secret_key_ref=k8s.core.v1.SecretKeySelectorArgs(name=secret, key=key)
            ),
        )
        for name, key in keys.items()
    ]


def _writable_mounts() -> list[k8s.core.v1.VolumeMountArgs]:
    return [_mount(name, path) for name, path in WRITABLE_PATHS.items()]


def _mount(name: str, path: str, *, read_only: bool | None = None) -> k8s.core.v1.VolumeMountArgs:
    return k8s.core.v1.VolumeMountArgs(name=name, mount_path=path, read_only=read_only)


def _probe(workload: Workload, path: str, period: int, failures: int) -> k8s.core.v1.ProbeArgs:
    return k8s.core.v1.ProbeArgs(
        http_get=k8s.core.v1.HTTPGetActionArgs(path=path, port=workload.port_name),
        period_seconds=period,
        timeout_seconds=times.PROBE_TIMEOUT_SECONDS,
        failure_threshold=failures,
    )
