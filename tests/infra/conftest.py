"""A sound configuration to start from, and the stack built from one under Pulumi's own mock engine."""

import asyncio
import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.runtime import mocks as pulumi_mocks

from infra.config.loader import parse
from infra.config.schema import StackConfig
from infra.stack import LlmStack, LlmStackArgs, providers
from local import toolchain
from local.paths import Paths
from local.screen import Screen
from local.toolchain import Tools

DIGEST = f"sha256:{'ab' * 32}"
SECRET_VERSION = "42"
SOUND: dict[str, Any] = {
    "cluster": {"identifier": "test", "context": "test", "namespace": "llm"},
    "image": {"mode": "build", "repository": "registry.acme.dev/llm/server"},
    "keda": {},
    "monitoring": {"mode": "existing", "prometheus_address": "http://prometheus.monitoring.svc:9090"},
    "models": {
        "chat": {
            "weights": {"source": "node-disk", "path": "/models/chat", "node": "node-1"},
            "resources": {"cpu": "300m", "memory": "700Mi", "memory_limit": "2Gi"},
            "api_keys": {"source": "none"},
        }
    },
}


@pytest.fixture
def sound() -> dict[str, Any]:
    """A configuration without a fault, to be changed by the test."""
    return copy.deepcopy(SOUND)


@dataclass(frozen=True)
class Registered:
    """One resource as the engine was asked to register it."""

    type: str
    name: str
    inputs: dict[str, Any]
    provider: str


@dataclass
class Recorder(pulumi_mocks.Mocks):
    """Answers as the providers would, and remembers what was asked."""

    resources: list[Registered] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    urns: list[str] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)  # outputs of the last deployment

    def new_resource(self, args: pulumi_mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.resources.append(Registered(args.typ, args.name, args.inputs, args.provider or ""))
        state = dict(args.inputs)
        if args.typ == "pulumi:pulumi:StackReference":
            state["outputs"] = self.last
        if args.typ == "docker:index/image:Image":
            state["repoDigest"] = f"{state['imageName'].rpartition(':')[0]}@{DIGEST}"
        if args.typ == "kubernetes:core/v1:Secret":
            state["metadata"] = {**state["metadata"], "resourceVersion": SECRET_VERSION}
        if args.inputs.get("spec", {}).get("type") == "LoadBalancer":
            state["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
        return f"{args.name}-id", state

    def call(self, args: pulumi_mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"the program calls {args.token}: a preview would need the cluster")

    def only(self, kind: str) -> dict[str, Any]:
        """The inputs of the only resource whose type ends in ``kind``."""
        (found,) = self.all(kind)
        return found

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [resource.inputs for resource in self.resources if resource.type.rpartition(":")[2] == kind]


Deploy = Callable[[dict[str, Any]], Recorder]


Program = Callable[..., Recorder]


@pytest.fixture
def under_mocks() -> Iterator[Program]:
    """Runs a program against the mock engine and returns what it registered."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    # Pulumi's mocks want an event loop in each thread that serves them, and close none: these are ours to close.
    loops = [loop]

    def give_loop() -> None:
        loops.append(asyncio.new_event_loop())
        asyncio.set_event_loop(loops[-1])

    executor = ThreadPoolExecutor(initializer=give_loop)
    loop.set_default_executor(executor)

    def run(program: Callable[[], object], last: dict[str, Any] | None = None) -> Recorder:
        recorder = Recorder(last=last or {})
        monitor = pulumi_mocks.MockMonitor(recorder)
        pulumi.runtime.set_mocks(recorder, project="llm-stack", stack="test", preview=False, monitor=monitor)
        awaited: Callable[[Callable[[], object]], Callable[[], None]] = pulumi.runtime.test
        awaited(program)()
        recorder.urns = list(monitor.get_registered_resources())
        return recorder

    yield run
    executor.shutdown()
    asyncio.set_event_loop(None)
    for opened in loops:
        opened.close()


@pytest.fixture
def deploy(under_mocks: Program) -> Deploy:
    """Builds the stack of a configuration and returns what it registered and gave out."""

    def run(mapping: dict[str, Any]) -> Recorder:
        config = parse(mapping)
        outputs: dict[str, Any] = {}
        recorder = under_mocks(lambda: _build(config, outputs))
        recorder.outputs = outputs
        return recorder

    return run


def _build(config: StackConfig, outputs: dict[str, Any]) -> pulumi.Output[None]:
    options = pulumi.ResourceOptions(providers=providers(config))
    stack = LlmStack("llm", LlmStackArgs(config=config, tag="test"), options)
    given = {"endpoints": stack.endpoints, "image": stack.image}
    return pulumi.Output.from_input(given).apply(lambda values: outputs.update(values))


@pytest.fixture(scope="session")
def tools() -> Tools:
    """The tools of `python3 -m local tools`."""
    return toolchain.obtain(Paths(), Screen())


@pytest.fixture
def crd_schema(tools: Tools) -> Callable[[str], dict[str, Any]]:
    """The schema of the version that is stored, in the custom resource definition ``file`` (name without `.yaml`)."""
    gateway_api = toolchain.obtain(Paths(), Screen(), ["gateway-api"]).gateway_api_share

    def read(file: str) -> dict[str, Any]:
        (found,) = [
            *gateway_api.rglob(f"crds/{file}.yaml"),
            *tools.keda_share.rglob(f"bases/{file}.yaml"),
            *tools.prometheus_operator_share.rglob(f"crds/{file}.yaml"),
        ]
        definition = yaml.safe_load(found.read_text())
        (stored,) = (version for version in definition["spec"]["versions"] if version["storage"])
        schema: dict[str, Any] = stored["schema"]["openAPIV3Schema"]
        return schema

    return read
