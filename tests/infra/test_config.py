"""What the configuration refuses, and how it says so."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from infra.config.engine import from_engine
from infra.config.files import from_files
from infra.config.loader import parse
from infra.config.parsing import ConfigError
from infra.config.schema import HubWeights, NodeDiskWeights, NodePortEndpoint, StackConfig
from infra.findings import Finding
from infra.project import ROOT

Mapping = dict[str, Any]


def findings(mapping: Mapping) -> tuple[Finding, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(mapping)
    return caught.value.findings


def set_at(mapping: Mapping, path: str, value: object) -> Mapping:
    *groups, last = path.split("/")
    inner = mapping
    for group in groups:
        inner = inner.setdefault(group, {})
    inner[last] = value
    return mapping


def test_a_sound_configuration_has_every_default(sound: Mapping) -> None:
    config = parse(sound)
    assert isinstance(config, StackConfig)
    chat = config.models["chat"]
    assert isinstance(chat.weights, NodeDiskWeights)
    assert chat.read_only_root
    assert (chat.scaling.running_per_replica or 0) <= chat.server.max_running_requests


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("models/chat/scaling/min_replica", 2, "Did you mean min_replicas?"),
        ("modells", {}, "Did you mean models?"),
        ("cluster/zzz", 1, "identifier, context, namespace"),
        ("models/chat/scaling/max_replicas", "three", "is text, must be a whole number"),
        ("models/chat/scaling/max_replicas", 2.5, "is a number, must be a whole number"),
        ("models/chat/scaling/max_replicas", True, "is true or false, must be a whole number"),
        ("models/chat/scaling/min_replicas", -1, "is less than 0"),
        ("models/chat/timing/startup_seconds", 100_000, "is more than 7200"),
        ("models/chat/read_only_root", "yes", "must be true or false"),
        ("models/chat/server/dtype", "int3", "Use auto or float32 or bfloat16 or float16"),
        ("models/chat/scaling", [1], "is a list, must be a group of keys"),
        ("models/chat/gpus/count", None, "is empty"),
        ("cluster/namespace", "Not A Label", "is not a DNS label"),
        ("cluster/context", "", "is not a value"),
        ("cluster/context", "<your context>", "is still a placeholder"),
        ("models/chat/weights/source", "ftp", "Use node-disk or pvc or hub"),
        ("models/chat/weights", {"path": "/x"}, "does not say its source"),
        ("models/chat/endpoint", {"type": "NodePort", "port": 80, "host": "h"}, "is less than 30000"),
        ("models/chat/timing/grace_seconds", 120, "the pod would be killed while it still answers"),
        ("models/chat/scaling/fallback_replicas", 9, "is outside min_replicas = 1 to max_replicas = 3"),
        ("models/chat/scaling/min_replicas", 5, "is more than max_replicas = 3"),
        # A target that a full replica does not exceed by the autoscaler's tolerance would never add one.
        ("models/chat/scaling/running_per_replica", 17, "runs server.max_running_requests = 16 at most"),
        ("models/chat/scaling/running_per_replica", 15, "is never exceeded by 10%"),
        ("models/chat/scaling/waiting_per_replica", 64, "more than server.max_waiting_requests = 64 are refused"),
        ("models/chat/server/max_waiting_requests", 0, "is less than 1"),
        ("models/chat/server/max_model_len", 1, "is less than 2"),
        ("models/chat/resources/memory", "4Gi", "is more than memory_limit = 2Gi"),
        ("models", {}, "names no model"),
        ("models", {"No_Name": {}}, "Rename the entry"),
        ("image", {"mode": "prebuilt", "reference": "registry.acme.dev/llm:latest"}, "a reference by digest"),
        ("image/repository", "registry.acme.dev/llm:1", "without a tag"),
        ("monitoring/prometheus_address", "prometheus:9090", "is not an http or https address"),
        ("monitoring/prometheus_address", "http://me:secret@prometheus", "is not an http or https address"),
        ("models/chat/scaling/waiting_per_replica", float("nan"), "is no number to reckon with"),
        (
            "models/chat/resources/memory",
            "\u0661Gi",
            "is not a memory quantity",
        ),  # an Arabic one: a digit to Python only
        ("models/chat/resources/cpu", 4, "Write it in quotes: cores"),
        ("models/chat/resources/cpu", -4, "Give cores"),
        ("models/chat/resources/memory", 8, "Give memory that is reserved, such as 700Mi"),
        ("models/chat/resources/memory", "8g", "is not a memory quantity"),
        ("models/chat/resources/memory", "3G", "is more than memory_limit = 2Gi"),
        ("models/chat/placement/node_selector", {"nvidia.com/gpu.present": True}, "Write it in quotes: labels"),
        ("models/chat/api_keys", {"source": "given", "keys": 1234}, "keys = [secret]: is a whole number, must be text"),
        ("models/chat/network/client_namespaces", ["edge", "Not A Label"], "client_namespaces[1]"),
        ("models/chat/placement/node_selector", {"disk type": "ssd"}, "is not a label's name"),
        ("models/chat/placement/node_selector", {"disk": "very fast"}, "is not a label's value"),
    ],
)
def test_a_fault_names_key_value_and_remedy(sound: Mapping, path: str, value: object, says: str) -> None:
    found = findings(set_at(sound, path, value))
    matching = [finding for finding in found if says in str(finding)]
    assert matching, [str(finding) for finding in found]
    assert matching[0].key.startswith(path.split("/")[0])
    assert matching[0].value
    assert matching[0].remedy.endswith((".", "?"))


def test_every_fault_is_reported_at_once(sound: Mapping) -> None:
    set_at(sound, "cluster/contxt", "a")
    set_at(sound, "models/chat/scaling/min_replicas", 7)
    set_at(sound, "models/chat/scaling/polling_seconds", "often")
    set_at(sound, "models/chat/server/max_running", 8)
    del sound["models"]["chat"]["weights"]
    del sound["image"]
    keys = {finding.key for finding in findings(sound)}
    assert keys == {
        "cluster.contxt",
        "image",
        "models.chat.scaling.min_replicas",
        "models.chat.scaling.polling_seconds",
        "models.chat.server.max_running",
        "models.chat.weights",
    }


def test_an_empty_configuration_names_every_required_key() -> None:
    # What the engine hands over when a stack's file says nothing: each group with its default.
    keys = {finding.key for finding in findings({name: {} for name in ("cluster", "image", "monitoring", "models")})}
    assert {"cluster.context", "image", "monitoring", "models"} <= keys


def test_two_models_cannot_share_a_node_port(sound: Mapping) -> None:
    set_at(sound, "models/chat/endpoint", {"type": "NodePort", "port": 30080, "host": "10.0.0.1"})
    sound["models"]["code"] = copy.deepcopy(sound["models"]["chat"])
    (finding,) = findings(sound)
    assert finding.key == "models.code.endpoint.port"
    assert "models.chat.endpoint" in finding.problem


def test_a_union_takes_the_keys_of_the_chosen_class_only(sound: Mapping) -> None:
    hub = {"source": "hub", "repository": "owner/name", "revision": "0" * 40}
    assert isinstance(parse(set_at(sound, "models/chat/weights", hub)).models["chat"].weights, HubWeights)
    (finding,) = findings(set_at(sound, "models/chat/weights/path", "/x"))
    assert finding.key == "models.chat.weights.path"
    assert "set models.chat.weights.source to node-disk or baked" in finding.remedy


def test_a_claim_that_is_there_needs_a_namespace_that_is_there(sound: Mapping) -> None:
    set_at(sound, "models/chat/weights", {"source": "pvc", "claim": "c"})
    (finding,) = findings(sound)
    assert finding.key == "cluster.create_namespace"
    assert "models.chat" in finding.problem
    parse(set_at(sound, "cluster/create_namespace", False))


@pytest.mark.parametrize("memory", ["2048Mi", "2147483k", "2147M", "2G"])
def test_memory_is_compared_across_units(sound: Mapping, memory: str) -> None:
    parse(set_at(sound, "models/chat/resources/memory", memory))


def test_what_a_user_fills_in_holds_no_passphrase_of_ours() -> None:
    for stack in ("dev", "prod"):
        assert "encryptionsalt" not in yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())


def test_a_hub_revision_must_be_a_commit(sound: Mapping) -> None:
    hub = {"source": "hub", "repository": "owner/name", "revision": "main"}
    (finding,) = findings(set_at(sound, "models/chat/weights", hub))
    assert "a branch can move" in finding.problem


def test_whole_numbers_are_numbers(sound: Mapping) -> None:
    config = parse(set_at(sound, "models/chat/scaling/waiting_per_replica", 2))
    assert config.models["chat"].scaling.waiting_per_replica == 2.0


def test_the_local_stack_is_sound_and_reachable_on_its_node() -> None:
    chat = parse(from_files("local")).models["chat"]
    assert chat.endpoint == NodePortEndpoint(port=30080, host="10.222.0.1")


@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_the_shipped_stacks_are_sound(stack: str) -> None:
    assert parse(from_files(stack)).models["chat"].gpus.count == 1


def test_the_project_declares_exactly_the_groups_of_the_schema() -> None:
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    groups = {name for name in declared if not name.startswith("pulumi:")}
    assert groups == {member.name for member in dataclasses.fields(StackConfig)}


def test_both_readers_give_the_same(sound: Mapping, tmp_path: Path) -> None:
    entries = {f"llm-stack:{name}": group for name, group in sound.items()}
    (tmp_path / "Pulumi.test.yaml").write_text(yaml.safe_dump({"config": {**entries, "kubernetes:context": "other"}}))
    before = dict(pulumi.runtime.config.CONFIG.get())
    pulumi.runtime.set_all_config({name: json.dumps(group) for name, group in entries.items()} | {"aws:region": "x"})
    try:
        assert parse(from_engine()) == parse(from_files("test", tmp_path))
    finally:
        pulumi.runtime.set_all_config(before)


def test_an_encrypted_value_is_taken_unseen(sound: Mapping, tmp_path: Path) -> None:
    set_at(sound, "models/chat/weights/path", {"secure": "AAABAPyaXn=="})
    set_at(sound, "models/chat/scaling/max_replicas", {"secure": "AAABAPyaXn=="})
    (tmp_path / "Pulumi.test.yaml").write_text(yaml.safe_dump({"config": sound}))
    (finding,) = findings(from_files("test", tmp_path))
    assert str(finding).startswith("models.chat.scaling.max_replicas = [secret]: is text, must be a whole number")


def test_an_encrypted_value_is_not_compared(sound: Mapping, tmp_path: Path) -> None:
    set_at(sound, "models/chat/resources/memory", {"secure": "AAABAPyaXn=="})
    (tmp_path / "Pulumi.test.yaml").write_text(yaml.safe_dump({"config": sound}))
    parse(from_files("test", tmp_path))


def test_a_label_may_have_no_value(sound: Mapping) -> None:
    parse(set_at(sound, "models/chat/placement/node_selector", {"node-role.kubernetes.io/gpu": ""}))


def test_a_stack_without_a_file_names_those_that_have_one() -> None:
    with pytest.raises(ConfigError, match=r"Pulumi\.nowhere\.yaml.*dev, local, prod"):
        from_files("nowhere")


def test_a_file_that_is_no_yaml_says_where(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.test.yaml").write_text("config: [")
    with pytest.raises(ConfigError, match=r"is not YAML.*line 1"):
        from_files("test", tmp_path)
