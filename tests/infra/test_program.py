"""The program as the engine runs it: configuration in, outputs out."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pulumi
import pytest
from pulumi.runtime.config import CONFIG

from infra import rollback
from infra.config.loader import parse
from infra.last import pins
from infra.project import ROOT
from infra.rollback import commands

Mapping = dict[str, Any]
Program = Callable[..., Any]


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
    image = outputs.pop("image")
    assert image.startswith("registry.acme.dev/llm/server@sha256:")
    assert outputs == {
        "endpoint_url": "http://chat.llm.svc:8000/v1",
        "endpoints": {"chat": "http://chat.llm.svc:8000/v1"},
        "namespace": "llm",
        "prometheus_url": "http://prometheus.monitoring.svc:9090",
        "api_keys": {},
        "gpu_cost_per_month": "0.00 to 0.00 USD per month",
        "gpu_cost": {"currency": "USD", "minimum": 0.0, "maximum": 0.0},
        "release": {"image": image, "pins": {}},
        "previous_release": None,
        "fits": {"chat": "not checked"},
        "scaling": {"chat": "1 to 3 replicas; each carries 5 waiting requests, 12 running requests"},
    }


@pytest.mark.parametrize(("same", "previous"), [(False, "last"), (True, "before")])
def test_the_release_before_is_the_last_that_differs(
    under_mocks: Program,
    engine_config: Callable[[Mapping], None],
    sound: Mapping,
    same: bool,
    previous: str,
) -> None:
    reference = f"registry.acme.dev/llm/server@sha256:{'0' * 64}"
    sound["image"] = {"mode": "prebuilt", "reference": reference}
    engine_config(sound)
    last = {"image": reference if same else "last", "pins": {}}
    cost = {"currency": "USD", "minimum": 10.0, "maximum": 30.0}
    told = {"release": last, "previous_release": {"image": "before", "pins": {}}, "gpu_cost": cost}
    outputs: dict[str, Any] = {}
    under_mocks(lambda: run().apply(outputs.update), told)
    assert outputs["previous_release"]["image"] == previous
    assert outputs["gpu_cost_per_month"].endswith("; -10.00 to -30.00 against the last deployment")


def test_going_back_names_image_and_revisions() -> None:
    made = list(commands("prod", {"image": "r@sha256:0", "pins": {"models.chat.weights.revision": "1" * 40}}))
    assert ["pulumi", "config", "rm", "-s", "prod", "--path", "llm-stack:image.repository"] in made
    assert made[-1][-2:] == ["llm-stack:models.chat.weights.revision", "1" * 40]


def test_going_back_leaves_out_what_the_file_has_no_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sound: Mapping
) -> None:
    sound["models"]["chat"]["weights"] = {"source": "s3", "bucket": "models", "prefix": "chat/2", "size": "20Gi"}
    gone = ["models.chat.weights.revision", "models.chat.runtime.image", "models.old.weights.revision"]
    told = json.dumps(
        {"image": "r@sha256:0", "pins": {**dict.fromkeys(gone, "1" * 40), "models.chat.weights.prefix": "chat/1"}}
    )
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0, stdout=told)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(rollback, "from_files", {"prod": sound}.__getitem__)
    monkeypatch.setattr(sys, "argv", ["rollback", "-s", "acme/llm-stack/prod"])
    assert rollback.main() == 0
    written = [command[-2] for command in ran if "set" in command]
    assert written == ["llm-stack:image.mode", "llm-stack:image.reference", "llm-stack:models.chat.weights.prefix"]
    said = capsys.readouterr().err
    assert all(f"{key} = " in said for key in gone)


def test_a_hub_model_and_a_bucket_are_pinned_whole(sound: Mapping) -> None:
    hub = {"source": "hub", "repository": "owner/name", "revision": "1" * 40}
    s3 = {"source": "s3", "bucket": "models", "prefix": "chat", "size": "20Gi"}
    chat = sound["models"]["chat"]
    sound["models"] = {"chat": {**chat, "weights": hub}, "code": {**chat, "weights": s3}}
    assert dict(pins(parse(sound))) == {
        "models.chat.weights.repository": "owner/name",
        "models.chat.weights.revision": "1" * 40,
        "models.code.weights.bucket": "models",
        "models.code.weights.prefix": "chat",
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
