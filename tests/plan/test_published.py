"""Weights of published models: our sum against the published size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.gpus import find_gpu
from infra.plan.fit.candidate import FitRequest
from infra.plan.fit.check import check_fit

PUBLISHED: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("published_models.yaml").read_text())
NAMES = [entry["model"] for entry in PUBLISHED]


@pytest.mark.parametrize("entry", PUBLISHED, ids=NAMES)
def test_weights_are_the_published_size(entry: dict[str, Any]) -> None:
    request = FitRequest(
        config=entry["config"], runtime="vllm", gpus_per_replica=1, gpu=find_gpu("B200"), max_running_requests=1
    )
    memory = check_fit(request).memory
    assert memory is not None
    assert memory.weights == pytest.approx(entry["bytes"], rel=0.001)


def test_the_families_are_many() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 15
    assert len({entry["config"]["model_type"] for entry in PUBLISHED}) >= 12


@pytest.mark.parametrize("model", ["Qwen/Qwen3-30B-A3B-Instruct-2507", "openai/gpt-oss-120b"])
def test_a_large_one_has_as_many_parameters_as_transformers_builds(model: str, build: Callable[..., Any]) -> None:
    config = PUBLISHED[NAMES.index(model)]["config"]
    request = FitRequest(
        config=config, runtime="vllm", gpus_per_replica=1, gpu=find_gpu("B200"), max_running_requests=1
    )
    assert check_fit(request).parameters == sum(parameter.numel() for parameter in build(config).parameters())
