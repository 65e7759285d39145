"""Models as transformers builds them, to compare with."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

Build = Callable[..., Any]
NOT_OF_THE_MODEL = ("model_type", "quantization_config", "torch_dtype")


@pytest.fixture(scope="session")
def build() -> Build:
    """Builds the model of a config.json on a device; on ``meta`` it has no weights."""
    auto: Any = AutoModelForCausalLM

    def built(config: Mapping[str, Any], device: str = "meta", **options: Any) -> Any:
        keys = {key: value for key, value in config.items() if key not in NOT_OF_THE_MODEL}
        with torch.device(device):
            return auto.from_config(CONFIG_MAPPING[config["model_type"]](**keys), **options).eval()

    return built
