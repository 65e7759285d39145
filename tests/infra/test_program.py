"""The program as the engine runs it: configuration in, outputs out."""

import json
import runpy
from collections.abc import Callable, Iterator
from typing import Any

import pulumi
import pytest
from pulumi.runtime.config import CONFIG

from infra.config.readers import ROOT

Mapping = dict[str, Any]
Program = Callable[[Callable[[], object]], Any]


@pytest.fixture
def engine_config() -> Iterator[Callable[[Mapping], None]]:
    """Hands a configuration over as the engine does: one JSON text per group."""
    before = dict(CONFIG.get())
    yield lambda groups: pulumi.runtime.set_all_config(
        {f"llm-stack:{name}": json.dumps(group) for name, group in groups.items()}
    )
    pulumi.runtime.set_all_config(before)


def run() -> pulumi.Output[dict[str, Any]]:
    runpy.run_path(str(ROOT / "infra"), run_name="__main__")
    root = pulumi.runtime.get_root_resource()
    assert isinstance(root, pulumi.runtime.stack.Stack)
    return pulumi.Output.from_input(root.outputs)


def test_a_sound_configuration_gives_every_output(
    under_mocks: Program, engine_config: Callable[[Mapping], None], sound: Mapping
) -> None:
    engine_config(sound)
    outputs: dict[str, Any] = {}
    under_mocks(lambda: run().apply(outputs.update))
    assert outputs.pop("image").startswith("registry.acme.dev/llm/server@sha256:")
    assert outputs == {
        "endpoint_url": "http://chat.llm.svc:8000/v1",
        "endpoints": {"chat": "http://chat.llm.svc:8000/v1"},
        "namespace": "llm",
        "prometheus_url": "http://prometheus.monitoring.svc:9090",
        "api_keys": {},
        "gpu_cost_per_month": "0.00 to 0.00 USD per month",
        "fits": {"chat": "not checked"},
        "scaling": {"chat": "1 to 3 replicas; each carries 5 waiting requests, 12 running requests"},
    }


def test_a_faulty_configuration_registers_nothing(
    under_mocks: Program, engine_config: Callable[[Mapping], None], sound: Mapping
) -> None:
    del sound["models"]["chat"]["weights"]
    sound["cluster"]["contxt"] = "a"
    engine_config(sound)
    refused: list[str] = []

    def program() -> None:
        with pytest.raises(pulumi.RunError) as caught:
            run()
        refused.append(str(caught.value))

    assert under_mocks(program).resources == []
    assert "2 faults; nothing was touched" in refused[0]
