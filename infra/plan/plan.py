"""Everything that can be said of a stack before it is deployed."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.accelerator import device, shares_of
from infra.config.schema import Model, StackConfig, TransformersRuntime, VllmRuntime
from infra.findings import Finding, Severity
from infra.plan import cost, examples, exposure, ineffective, nodes, rollouts, shares, timing, volumes
from infra.plan.cost import GpuCost, gpu_cost
from infra.plan.fit.candidate import DEFAULT_MEMORY_SHARE, FitRequest
from infra.plan.fit.check import Fit, check_fit
from infra.plan.fit.memory import MIB
from infra.plan.model_files import read_config
from infra.plan.timing import ColdStart, cold_start
from infra.project import ROOT
from infra.quantity import bytes_of


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """One model: whether it fits (None: not checked), and how its replicas come."""

    fit: Fit | None
    start: ColdStart


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The models' plans by name, what they cost (None: no price), and everything there is to say."""

    models: Mapping[str, ModelPlan]
    cost: GpuCost | None
    findings: tuple[Finding, ...]
    examples: tuple[Finding, ...]  # those of the findings that stop an update, and no preview

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is Severity.WARNING)


def plan(config: StackConfig, root: Path = ROOT) -> Plan:
    """The plan of a configuration; files that it names are looked for below ``root``."""
    models: dict[str, ModelPlan] = {}
    open_examples = tuple(examples.findings(config))
    found: list[Finding] = [
        *open_examples,
        *cost.findings(config),
        *rollouts.shared_pools(config),
        *nodes.findings(config),
    ]
    for key, model in config.models.items():
        fit, about_fit = _fit(config, key, model, root)
        checkpoint = fit.checkpoint if fit is not None else None
        start = cold_start(config, key, checkpoint)
        found += [*about_fit, *shares.findings(config, key, fit), *volumes.findings(config, key, checkpoint)]
        found += [*timing.findings(config, key, start), *rollouts.findings(config, key)]
        found += [*exposure.findings(config, key), *ineffective.findings(config, key)]
        models[key] = ModelPlan(fit=fit, start=start)
    return Plan(models=models, cost=gpu_cost(config), findings=tuple(found), examples=open_examples)


def _fit(config: StackConfig, key: str, model: Model, root: Path) -> tuple[Fit | None, list[Finding]]:
    files = read_config(key, model, root)
    if isinstance(files, Finding):
        return None, [files]
    fit = check_fit(_request(config, model, files))
    return fit, list(_below(f"models.{key}", fit.findings))


def _request(config: StackConfig, model: Model, files: Mapping[str, object]) -> FitRequest:
    runtime, server = model.runtime, model.server
    vllm = runtime if isinstance(runtime, VllmRuntime) else None
    return FitRequest(
        config=files,
        runtime="vllm" if vllm else "transformers",
        gpus_per_replica=model.gpus.count,
        gpu=None if model.gpus.pool is None else device(model.gpus, config.gpu_pools[model.gpus.pool]),
        memory_limit_bytes=bytes_of(model.resources.memory_limit),
        max_running_requests=server.max_running_requests,
        max_model_len=server.max_model_len,
        dtype=None if server.dtype == "auto" else server.dtype,
        quantization=vllm.quantization if vllm else None,
        kv_cache_dtype=vllm.kv_cache_dtype if vllm else "auto",
        shares=shares_of(config.device_plugin),
        kv_cache_bytes=_kv_cache_bytes(model),
        memory_share=vllm.gpu_memory_utilization if vllm else DEFAULT_MEMORY_SHARE,
    )


def _kv_cache_bytes(model: Model) -> int | None:
    runtime = model.runtime
    told = runtime.kv_cache_mib if isinstance(runtime, TransformersRuntime) else None
    return None if told is None else told * MIB


def _below(path: str, findings: tuple[Finding, ...]) -> Iterator[Finding]:
    for finding in findings:
        yield dataclasses.replace(finding, key=f"{path}.{finding.key}")
