"""One model with everything that serves it."""

from dataclasses import dataclass

import pulumi

from infra.accelerator import Accelerator
from infra.components.access import ApiKeys, ApiKeysArgs
from infra.components.alerts import ModelAlerts, ModelAlertsArgs
from infra.components.endpoint import Endpoint, EndpointArgs
from infra.components.image import ServerImage
from infra.components.monitor import ModelMonitor, ModelMonitorArgs
from infra.components.platform import Platform
from infra.components.pod import PodArgs
from infra.components.prometheus_access import PrometheusAccess, PrometheusAccessArgs
from infra.components.proof import SignalProof, SignalProofArgs
from infra.components.scaler import ModelScaler, ModelScalerArgs
from infra.components.server import ModelServer, ModelServerArgs
from infra.components.weights import (
    CacheArgs,
    NodeDiskVolume,
    NodeDiskVolumeArgs,
    WeightsCache,
    WeightsSecret,
    WeightsSecretArgs,
    stored_secrets,
)
from infra.config import schema
from infra.config.schema import StackConfig
from infra.lifecycle import Lifecycle
from infra.network_policy import NetworkPolicy
from infra.observability import ModelRules
from infra.plan.timing import cooldown_seconds, provisioning_seconds
from infra.rollout import IN_PLACE, rollout_of
from infra.signals import signals
from infra.weights import ModelSource, cache_of
from infra.workload import Workload


@dataclass(frozen=True, kw_only=True)
class ModelArgs:
    """The model, and what it stands on."""

    key: str  # the model's entry in the configuration
    config: StackConfig
    workload: Workload
    platform: Platform
    image: ServerImage
    namespace: pulumi.Input[str]


class Model(pulumi.ComponentResource):
    """Weights, server, endpoint, keys, monitor and scaler of one model."""

    server: ModelServer
    endpoint: Endpoint
    api_keys: pulumi.Output[str] | None  # a secret; None where whoever reaches the model may use it

    def __init__(self, name: str, args: ModelArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:Model", name, None, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        config, workload, namespace = args.config, args.workload, args.namespace
        model, prometheus = config.models[args.key], args.platform.prometheus
        keys = self._keys(name, model, args)
        once = isinstance(model.runtime, schema.VllmRuntime) and isinstance(model.api_keys, schema.GivenKeys)
        source = ModelSource.of(model.weights, workload)
        vllm = model.runtime.image if isinstance(model.runtime, schema.VllmRuntime) else None
        pod = PodArgs(
            workload=workload,
            model=model,
            source=source,
            accelerator=Accelerator.of(model.gpus, config.gpu_pools, config.device_plugin),
            image=vllm or args.image.reference,
            own_image=args.image.reference,
            pull_secrets=args.image.pull_secrets,
        )
        rollout = rollout_of(config, args.key)
        lifecycle = Lifecycle.of(
            model.timing,
            model.scaling,
            provisioning=provisioning_seconds(config, args.key),
            in_place=rollout == IN_PLACE,
        )
        self.server = ModelServer(
            name,
            ModelServerArgs(
                pod=pod,
                rollout=rollout,
                lifecycle=lifecycle,
                annotations=model.service_account_annotations,
                keys_version=keys.version if keys and once else None,
                namespace=namespace,
                after=(*self._weights(name, model, args), *((keys.secret,) if keys else ()), *args.image.pullable),
            ),
            self._child,
        )
        policy = NetworkPolicy.of(model, namespace=workload.namespace, monitoring_namespace=prometheus.namespace)
        self.endpoint = Endpoint(
            name,
            EndpointArgs(
                workload=workload,
                kind=model.endpoint,
                exposure=model.exposure,
                policy=policy if model.network.policy else None,
                clients=model.network.client_cidrs or (),
                answer=lifecycle.answer,
                timeout=lifecycle.deployment_timeout,
                namespace=namespace,
            ),
            self._child,
        )
        access = self._access(name, args)
        asked = signals(model.scaling, workload, config.gpu_metrics, sliced=model.gpus.mig_profile is not None)
        monitor = ModelMonitor(
            name,
            ModelMonitorArgs(workload=workload, monitoring=args.platform.monitoring, namespace=namespace),
            self._child,
        )
        measured = (self.server.deployment, monitor.service_monitor)
        proof: tuple[pulumi.Resource, ...] = measured
        if asked:
            questions = SignalProofArgs(
                workload=workload,
                signals=asked,
                prometheus_address=prometheus.address,
                token_secret=PrometheusAccess.name_of(workload) if access else None,
                pod=pod,
                provisioning=provisioning_seconds(config, args.key),
                scrape_interval=prometheus.scrape_interval_seconds,
                namespace=namespace,
                after=(*measured, *access),
            )
            proof = (*measured, SignalProof(name, questions, self._child).job)
        ModelScaler(
            name,
            ModelScalerArgs(
                workload=workload,
                scaling=model.scaling,
                signals=asked,
                prometheus_address=prometheus.address,
                authentication=PrometheusAccess.name_of(workload) if access else None,
                scrape_interval=prometheus.scrape_interval_seconds,
                cooldown=cooldown_seconds(config, args.key),
                namespace=namespace,
                after=(args.platform.keda, self.endpoint.service, *access, *proof),
            ),
            self._child,
        )
        rules = ModelRules(
            workload=workload,
            objectives=model.objectives,
            min_replicas=model.scaling.min_replicas,
            gpus=bool(model.gpus.count) and config.gpu_metrics.mode != "none",
            honor_labels=config.gpu_metrics.honor_labels,
            waiting_per_replica=model.scaling.waiting_per_replica,
            running_per_replica=model.scaling.running_per_replica,
            start_seconds=model.timing.startup_seconds,
            node_seconds=provisioning_seconds(config, args.key),
            fallback_failures=model.scaling.fallback_failures,
            runbooks=config.monitoring.runbooks,
        )
        watched = (self.server.deployment, args.platform.monitoring)
        alerts = ModelAlertsArgs(
            rules=rules,
            monitoring=args.platform.monitoring,
            namespace=namespace,
            after=watched,
        )
        ModelAlerts(name, alerts, self._child)
        self.register_outputs({"endpoint_url": self.endpoint.url})

    def _keys(self, name: str, model: schema.Model, args: ModelArgs) -> ApiKeys | None:
        self.api_keys = None
        if isinstance(model.api_keys, schema.NoKeys):
            return None
        given = ApiKeysArgs(workload=args.workload, source=model.api_keys, namespace=args.namespace)
        keys = ApiKeys(name, given, self._child)
        self.api_keys = keys.keys
        return keys

    def _access(self, name: str, args: ModelArgs) -> tuple[pulumi.Resource, ...]:
        token = args.platform.prometheus.bearer_token
        if token is None:
            return ()
        given = PrometheusAccessArgs(
            workload=args.workload,
            token=token,
            keda=args.platform.keda,
            namespace=args.namespace,
        )
        return PrometheusAccess(name, given, self._child).resources

    def _weights(self, name: str, model: schema.Model, args: ModelArgs) -> tuple[pulumi.Resource, ...]:
        """What must be there before the pods read their weights."""
        workload, namespace, weights = args.workload, args.namespace, model.weights
        made: list[pulumi.Resource] = []
        if isinstance(weights, schema.NodeDiskWeights):
            disk = NodeDiskVolumeArgs(workload=workload, weights=weights, namespace=namespace)
            made.append(NodeDiskVolume(f"{name}-weights", disk, self._child))
        if (cache := cache_of(weights)) is not None:
            volume = CacheArgs(workload=workload, cache=cache, namespace=namespace)
            made.append(WeightsCache(f"{name}-weights-cache", volume, self._child).claim)
        if secrets := stored_secrets(weights):
            given = WeightsSecretArgs(workload=workload, values=secrets, namespace=namespace)
            made.append(WeightsSecret(f"{name}-weights", given, self._child).secret)
        return tuple(made)
