"""One model and everything that serves it."""

# ruff: noqa: RUF009 -- key() makes the field itself; it is no default that instances would share

from collections.abc import Mapping
from dataclasses import dataclass

from infra.config.parsing import key
from infra.config.schema.endpoint import ApiKeys, ClusterIpEndpoint, EndpointKind, Exposure, GeneratedKey, Network
from infra.config.schema.names import annotations
from infra.config.schema.objectives import Objectives
from infra.config.schema.scaling import Scaling
from infra.config.schema.server import Gpus, Placement, Resources, RuntimeKind, Server, Timing, TransformersRuntime
from infra.config.schema.weights import Weights


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model and everything that serves it."""

    weights: Weights = key("where the weights come from", tag="source")
    resources: Resources = key("what one replica reserves")
    config_file: str | None = key(
        "a copy of the model's config.json, relative to the project, so that its fit is checked without network; without "
        "it the hub is asked",
        default=None,
    )
    served_name: str | None = key(
        "the model's name in requests; the entry's own name when left out",
        default=None,
        pattern=r"[\w./:-]+",
        looks="a name without spaces",
    )
    runtime: RuntimeKind = key("what serves the model", default=TransformersRuntime(), tag="kind")
    gpus: Gpus = key("the accelerators of one replica", default=Gpus())
    server: Server = key("the limits of one server", default=Server())
    scaling: Scaling = key("how many replicas, and what decides it", default=Scaling())
    endpoint: EndpointKind = key("how clients reach the model", default=ClusterIpEndpoint(), tag="type")
    exposure: Exposure | None = key("what leads to the model from outside the cluster", default=None, tag="kind")
    api_keys: ApiKeys = key("who may use the model", default=GeneratedKey(), tag="source")
    network: Network = key("who may talk to the model's pods", default=Network())
    timing: Timing = key("how long a replica may take to start, to answer and to stop", default=Timing())
    placement: Placement = key("on which nodes the replicas run, and what may move them", default=Placement())
    objectives: Objectives = key("what users are promised, and what alerts watch over", default=Objectives())
    service_account_annotations: Mapping[str, str] = annotations(
        "annotations of the pods' ServiceAccount, by which clouds give them an identity (such as eks.amazonaws.com/role-arn)"
    )
    read_only_root: bool = key(
        "whether the container's root file system is read-only (some GPU runtimes write to it at start)", default=True
    )
