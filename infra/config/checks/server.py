"""Contradictions of models, their memory, times and weights."""

from collections.abc import Iterator, Mapping

from infra.config.parsing import Check, Contradiction
from infra.config.schema import (
    CacheVolume,
    Cluster,
    InstallMonitoring,
    Model,
    Objectives,
    PvcWeights,
    Resources,
    S3Weights,
    StackConfig,
    Timing,
)
from infra.lifecycle import drain_seconds
from infra.observability.slo import near_buckets
from infra.quantity import bytes_of
from infra.versions import DCGM_EXPORTER, GPU_OPERATOR, NVIDIA_DEVICE_PLUGIN
from infra.weights import on_one_node
from service.metric_names import FIRST_TOKEN_BUCKETS, INTER_TOKEN_BUCKETS

# Namespaces that every cluster has.
CLUSTERS_OWN = ("default", "kube-system", "kube-public", "kube-node-lease")


def any_model(models: Mapping[str, Model]) -> Iterator[Contradiction]:
    """No model at all."""
    if not models:
        yield Contradiction(
            "models", dict(models), "names no model", "Add one: models.<name>.weights and models.<name>.resources."
        )


def memory(memory: str, limit: str) -> Iterator[Contradiction]:
    """More memory reserved than allowed."""
    if bytes_of(memory) > bytes_of(limit):
        yield Contradiction(
            "memory", memory, f"is more than memory_limit = {limit}", "Lower memory or raise memory_limit."
        )


def grace(timing: Timing) -> Iterator[Contradiction]:
    """A pod that is killed while it still answers."""
    drain, given = drain_seconds(timing), timing.grace_seconds
    if given is not None and given <= timing.pre_stop_seconds + drain:
        yield Contradiction(
            "timing.grace_seconds",
            given,
            f"is not more than pre-stop and drain, {timing.pre_stop_seconds} + {drain}: the pod would be killed while it "
            "still answers",
            "Raise it, lower drain_seconds, or leave it out.",
        )


def existing_claims(cluster: Cluster, models: Mapping[str, Model]) -> Iterator[Contradiction]:
    """A claim that is said to exist, in a namespace that the stack is about to make."""
    named = [name for name, model in models.items() if isinstance(model.weights, PvcWeights)]
    if named and cluster.create_namespace:
        yield Contradiction(
            "cluster.create_namespace",
            cluster.create_namespace,
            f"makes the namespace {cluster.namespace}, in which the claim of models.{named[0]} is said to be already",
            "Set cluster.create_namespace to false: the stack then neither makes nor removes the namespace.",
        )


def namespaces(config: StackConfig) -> Iterator[Contradiction]:
    """A namespace that is to be made and that every cluster has; one made for two parts of the stack, of which each wants its own
    level of Pod Security.
    """
    monitoring, keda, plugin = config.monitoring, config.keda, config.device_plugin
    charts = {"install": NVIDIA_DEVICE_PLUGIN.name, "gpu-operator": GPU_OPERATOR.name}
    exporter = config.gpu_metrics.mode == "install" and plugin.mode != "gpu-operator"
    made = {
        "cluster.namespace": config.cluster.namespace if config.cluster.create_namespace else None,
        "keda.namespace": keda.namespace if keda.mode == "install" else None,
        "monitoring.namespace": monitoring.namespace if isinstance(monitoring, InstallMonitoring) else None,
        "device_plugin.mode": charts.get(plugin.mode),
        "gpu_metrics.mode": DCGM_EXPORTER.name if exporter else None,
    }
    taken: dict[str, str] = {}
    for key, namespace in made.items():
        if namespace in CLUSTERS_OWN:
            existing = ", or set cluster.create_namespace to false" if key == "cluster.namespace" else ""
            problem = "is in every cluster already, and the stack is to make it"
            yield Contradiction(key, namespace, problem, f"Name one that is not there yet{existing}.")
        if namespace is not None and (first := taken.setdefault(namespace, key)) != key:
            problem = f"is also the namespace that the stack makes for {key}"
            yield Contradiction(first, namespace, problem, "Give each part a namespace of its own.")


def s3_keys(model: Model) -> Iterator[Contradiction]:
    """Half of an access key."""
    weights = model.weights
    if isinstance(weights, S3Weights) and (weights.access_key is None) != (weights.secret_key is None):
        given, missing = ("access_key", "secret_key") if weights.secret_key is None else ("secret_key", "access_key")
        yield Contradiction(
            f"weights.{missing}",
            None,
            f"is missing, and weights.{given} is given",
            "Give both, or neither to use the pod's cloud identity.",
        )


def s3_room(size: str | None, cache: CacheVolume | None) -> Iterator[Contradiction]:
    """No room for the files of a storage, or room in two places."""
    if size is None and cache is None:
        problem, remedy = (
            "is missing, and there is no cache that keeps the files",
            "Give room for them, such as 20Gi, or cache.",
        )
        yield Contradiction("size", size, problem, remedy)
    if size is not None and cache is not None:
        problem = f"has no effect: the files are kept in the cache, whose size is {cache.size}"
        yield Contradiction("size", size, problem, "Leave it out, or leave cache out.")


def surge_of_one_node(config: StackConfig) -> Iterator[Contradiction]:
    """An update that starts a new pod first, in a pool that adds nodes, on a volume that only the old pod's node can use."""
    for name, model in config.models.items():
        pool = config.gpu_pools.get(model.gpus.pool or "")
        grows = pool is not None and pool.total == "autoscaled"
        if model.placement.rollout == "surge" and grows and on_one_node(model.weights):
            yield Contradiction(
                f"models.{name}.placement.rollout",
                "surge",
                "never ends: weights.cache.access_mode = ReadWriteOnce keeps the volume on the old pod's node, and the new pod "
                "comes to another",
                "Use auto or in-place, or a cache of ReadWriteMany.",
            )


def objectives(promised: Objectives) -> Iterator[Contradiction]:
    """A promised latency that no bucket of its histogram ends at, so that nobody could count how often it was kept; a tail of
    99 % that is promised sooner than 95 %.
    """
    first, between = promised.first_token_seconds, promised.inter_token_seconds
    tails = (
        ("first_token", first, promised.first_token_p99_seconds, FIRST_TOKEN_BUCKETS),
        ("inter_token", between, promised.inter_token_p99_seconds, INTER_TOKEN_BUCKETS),
    )
    for name, usual, tail, buckets in tails:
        for key, seconds in ((f"{name}_seconds", usual), (f"{name}_p99_seconds", tail)):
            near = (seconds,) if seconds is None else near_buckets(seconds, buckets)
            if near != (seconds,):
                problem = "is no bucket of the histogram that counts it: how often it is kept could not be told"
                yield Contradiction(key, seconds, problem, f"Use {' or '.join(f'{bucket:g}' for bucket in near)}.")
        if tail is not None and tail < usual:
            problem = f"is less than {name}_seconds = {usual:g}: what 99 % keep, 95 % do"
            yield Contradiction(
                f"{name}_p99_seconds", tail, problem, f"Raise it, or say null for {name}_seconds alone."
            )


CHECKS = (
    Check(StackConfig, ("models",), any_model),
    Check(Resources, ("memory", "memory_limit"), memory),
    Check(Model, ("timing",), grace),
    Check(Model, (), s3_keys),
    Check(S3Weights, ("size", "cache"), s3_room),
    Check(Objectives, (), objectives),
    Check(StackConfig, ("cluster", "models"), existing_claims),
    Check(StackConfig, (), namespaces),
    Check(StackConfig, (), surge_of_one_node),
)
