"""The pack as the real engine runs it, in a preview without a cluster."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rules.manifest import Resource

from local.preview import Preview
from local.project import ROOT
from tests.conftest import PreviewOf
from tests.policy.conftest import deployment, kubernetes, scaled_object, service, with_container

pytestmark = pytest.mark.engine

# Declares what a file beside it says.
PROGRAM = ROOT / "tests" / "e2e" / "program"
# A stack's file with a secret: nobody here has the passphrase.
SECRET = {"secure": "v1:AAAA:BBBB"}
SETTINGS = {
    "encryptionsalt": "v1:AAAA:v1:BBBB:CCCC",
    "config": {"t-stand-in:token": SECRET, "t-stand-in:models": {"chat": {"keys": [SECRET, SECRET]}, "other": 1}},
}
Run = Callable[..., Preview]


@pytest.fixture
def run(tmp_path: Path, preview_of: PreviewOf) -> Run:
    """Previews resources, or the stack of the checkout where there are none, with settings for the pack."""

    def previewed(*resources: Resource, **settings: dict[str, Any]) -> Preview:
        file = tmp_path / "settings.json"
        file.write_text(json.dumps({name.replace("_", "-"): values for name, values in settings.items()}))
        return preview_of("local", project(tmp_path / "project", resources) if resources else ROOT, file)

    return previewed


def project(directory: Path, resources: tuple[Resource, ...]) -> Path:
    directory.mkdir()
    for name in ("Pulumi.yaml", "__main__.py"):
        (directory / name).write_text((PROGRAM / name).read_text())
    (directory / "Pulumi.local.yaml").write_text(yaml.safe_dump(SETTINGS))
    declared = [
        {"type": resource.type, "name": f"{resource.kind}-{index}", "properties": resource.inputs}
        for index, resource in enumerate(resources)
    ]
    (directory / "resources.json").write_text(json.dumps(declared))
    return directory


def test_stack_of_this_checkout_breaks_no_rule(run: Run) -> None:
    said = run()
    assert not said.refused
    assert [finding for finding in said.findings if not finding.startswith("warning: ")] == []
    assert said.outputs["namespace"] == "llm"
    assert "llm-stack" in said.markdown()


def test_every_rule_stops_the_preview(run: Run) -> None:
    faulty = with_container(image="server:latest", resources={"limits": {"nvidia.com/gpu": "8"}}, env=[])
    inputs = {**faulty.inputs, "spec": {**faulty.inputs["spec"], "replicas": 2}}
    said = run(
        kubernetes("apps/v1:Deployment", **inputs),
        deployment(hostNetwork=True),
        scaled_object(fallback=None),
        service("LoadBalancer"),
        kubernetes("core/v1:ConfigMap", data={"HF_TOKEN": "hunter2"}),
    )
    assert said.refused
    assert {finding.partition(" ")[0] for finding in said.findings} >= {
        "images-pinned",
        "limits-set",
        "secrets-sealed",
        "autoscaler-answerable",
        "replicas-left-alone",
        "pods-unprivileged",
        "gpus-bounded",
        "endpoints-guarded",
    }
    assert "hunter2" not in "".join(finding for finding in said.findings)


def test_setting_reaches_its_rule_and_level_its_policy(run: Run) -> None:
    images = {"enforcementLevel": "advisory"}
    said = run(with_container(image="server:1"), scaled_object(), gpus_bounded={"maximum": 1}, images_pinned=images)
    (fault,) = said.faults
    (advice,) = set(said.findings) - {fault}
    assert fault.startswith(
        "gpus-bounded (mandatory): Deployment-0: the stack may come to hold 3 GPUs (Deployment chat 3)"
    )
    assert advice.startswith(
        "images-pinned (advisory): Deployment-0: container server: server:1 is not named by digest"
    )


def test_secrets_need_not_be_read_and_the_stack_s_file_stays_as_it_is(run: Run, tmp_path: Path) -> None:
    said = run(deployment(), kubernetes("core/v1:Secret", stringData={"key": "hunter2"}))
    assert said.findings == []
    assert "hunter2" not in said.markdown()
    assert yaml.safe_load((tmp_path / "project" / "Pulumi.local.yaml").read_text()) == SETTINGS


def test_wrong_setting_is_refused(run: Run) -> None:
    said = run(deployment(), gpus_bounded={"maximum": "many"})
    assert said.refused
    assert "maximum" in "".join(said.findings)
