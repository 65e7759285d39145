"""Configurations for property tests, read off the schema itself: a new key is generated as soon as it exists.

Every value is drawn from its key's type and rules. What would nearly always contradict something else, or be nonsense that only
its receiver can tell, is chosen from sound values in ``CHOICES``, and the keys that a model's parts must agree on are brought
into agreement at the end.
"""

import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from infra.config.files import from_files
from infra.config.parsing import PLACEHOLDER, RULES, Rules, Secret, tagged
from infra.config.schema import (
    BuildImage,
    GpuPool,
    Model,
    Network,
    Objectives,
    QueryRequests,
    Resources,
    Schedule,
    StackConfig,
)
from infra.config.schema.names import DNS_LABEL, MODEL_NAME
from infra.gpus import GPUS
from infra.project import ROOT
from service.metric_names import FIRST_TOKEN_BUCKETS, INTER_TOKEN_BUCKETS

Group = dict[str, Any]
Draw = Callable[[SearchStrategy[Any]], Any]
# Part of every secret, so that each is found again wherever it ends up.
MARK = "k1ngf1sher"
# What people write by hand; control characters are left to the garbage.
TEXT = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=30)
# Larger numbers without a maximum of their own only show what overflows: once is enough.
NUMBERS = st.integers(0, 1000) | st.integers(0, 2**40)
MOST_GPUS = 2 * 4  # of one model: devices by replicas
MODEL_FILES = [f"models/{file.name}" for file in sorted((ROOT / "models").glob("*.json"))]
CHOICES: dict[tuple[type, str], SearchStrategy[Any]] = {
    (GpuPool, "gpu"): st.sampled_from(sorted(GPUS)),
    (GpuPool, "total"): st.just("autoscaled") | st.integers(1, 64),
    (Model, "config_file"): st.sampled_from(MODEL_FILES),
    (QueryRequests, "query"): st.sampled_from(
        ["sum(gateway_queue)", 'sum(rate(requests{model="a"}[2m])) or vector(0)', "count (up == 1)"]
    ),
    (Schedule, "timezone"): st.sampled_from(["Europe/Berlin", "Etc/GMT+5", "UTC"]),
    (Schedule, "start"): st.sampled_from(["0 8 * * 1-5", "*/5 7 1 JAN,JUL *"]),
    (Schedule, "end"): st.just("30 18 * * *"),
    (Resources, "memory"): st.sampled_from(["1Gi", "700Mi"]),
    (Resources, "memory_limit"): st.sampled_from(["1Gi", "20480Mi", "1Ti"]),
    (Resources, "shared_memory"): st.sampled_from([None, "64Mi", "512Mi"]),
    (Network, "client_cidrs"): st.lists(st.sampled_from(["0.0.0.0/0", "203.0.113.0/24", "2001:db8::/32"]), max_size=2),
    # As their tails are by default, or less.
    (Objectives, "first_token_seconds"): st.sampled_from([bucket for bucket in FIRST_TOKEN_BUCKETS if bucket <= 10]),
    (Objectives, "inter_token_seconds"): st.sampled_from([bucket for bucket in INTER_TOKEN_BUCKETS if bucket <= 0.5]),
    (Objectives, "first_token_p99_seconds"): st.sampled_from([None, 10, 2560]),
    (Objectives, "inter_token_p99_seconds"): st.sampled_from([None, 0.5, 80]),
    (BuildImage, "repository"): st.sampled_from(["localhost:5001/llm/server", "registry.acme.dev/server"]),
}


def group(cls: type, **given: SearchStrategy[Any]) -> SearchStrategy[Group]:
    """A group of keys as a stack's file states it; ``given`` replaces the strategies of single keys."""
    hints = typing.get_type_hints(cls)
    needed: dict[str, SearchStrategy[Any]] = {}
    optional: dict[str, SearchStrategy[Any]] = {}
    for member in fields(cls):
        required = member.default is MISSING and member.default_factory is MISSING
        chosen = given.get(member.name, CHOICES.get((cls, member.name)))
        (needed if required else optional)[member.name] = (
            value(hints[member.name], member.metadata[RULES]) if chosen is None else chosen
        )
    return st.fixed_dictionaries(needed, optional=optional)


def value(hint: Any, rules: Rules) -> SearchStrategy[Any]:
    """A value of the annotated type that keeps its key's rules."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([_member(member, rules) for member in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is Mapping:
        names = _text(rules.pattern) if rules.pattern else TEXT
        inner = Rules(doc=rules.doc, pattern=rules.inner)
        return st.dictionaries(names, value(arguments[1], inner), max_size=2)
    if origin is tuple:
        return st.lists(value(arguments[0], rules), max_size=2)
    return _any_of(hint) if isinstance(hint, type) and is_dataclass(hint) else _scalar(hint, rules)


@cache
def _any_of(cls: type) -> SearchStrategy[Group]:
    return group(cls)


def _member(member: Any, rules: Rules) -> SearchStrategy[Any]:
    if member is types.NoneType:
        return st.none()
    if rules.tag:
        return _any_of(member).map(lambda keys: {rules.tag: tagged(member), **keys})
    return value(member, rules)


def _scalar(kind: type, rules: Rules) -> SearchStrategy[Any]:
    if kind is bool:
        return st.booleans()
    if kind is str:
        return (
            _secret(rules) if rules.secret else _text(rules.pattern) if rules.pattern else TEXT.filter(_no_placeholder)
        )
    low, high = rules.minimum, rules.maximum
    if kind is float:
        return st.floats(low or 0.0, high or 1e6, allow_nan=False)
    lowest = int(low or 0)
    return st.integers(lowest, int(high)) if high is not None else NUMBERS.map(lambda number: number + lowest)


def _text(pattern: Any) -> SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True).filter(_no_placeholder)


def _no_placeholder(text: str) -> bool:
    return not PLACEHOLDER.search(text)


def _secret(rules: Rules) -> SearchStrategy[Secret]:
    place = "https://hooks.acme.dev/" if rules.pattern and rules.pattern.fullmatch("https://a") else ""
    return st.integers(0, 10**6).map(lambda number: Secret(f"{place}{MARK}-{number}"))


@st.composite
def configurations(draw: Draw) -> Group:
    """A stack's configuration as its file states it, with one to three models; most of them are accepted."""
    config: Group = draw(
        group(
            StackConfig,
            models=st.dictionaries(_text(re.compile(MODEL_NAME)), _any_of(Model), min_size=1, max_size=3),
        )
    )
    plugin = config.setdefault("device_plugin", {})
    pools = config["gpu_pools"] = draw(
        st.dictionaries(_text(re.compile(DNS_LABEL)), _any_of(GpuPool), min_size=1, max_size=2)
    )
    _agree_on_sharing(plugin, draw)
    for pool in pools.values():
        pool.pop("runtime_class", None)
    for number, model in enumerate(config["models"].values()):
        _take_gpus(draw, model, pools, plugin)
        _scale(draw, model)
        _keep_time(model)
        _lock_doors(draw, model, number)
        _make_room(model["weights"])
        if model["weights"]["source"] == "pvc":
            config["cluster"]["create_namespace"] = False
        if model["weights"]["source"] == "hub" and "config_file" not in model:
            model["config_file"] = MODEL_FILES[0]  # nothing here asks the hub
    if any("price_per_hour" not in pool or pool["price_per_hour"] is None for pool in pools.values()):
        config.get("cost", {}).pop("budget_per_month", None)
    return config


def _agree_on_sharing(plugin: Group, draw: Draw) -> None:
    plugin.pop("shares", None)
    if plugin.get("sharing", "none") != "none":
        plugin["shares"] = draw(st.integers(2, 8))
        plugin.pop("mig_strategy", None)
    else:
        plugin["mig_strategy"] = draw(st.sampled_from(["none", "single", "mixed", "mixed"]))
    if plugin.get("mode") != "gpu-operator":
        plugin.pop("driver", None)
    else:
        plugin.pop("node_selector", None)


def _take_gpus(draw: Draw, model: Group, pools: Group, plugin: Group) -> None:
    """Whole GPUs of a pool, or one slice of one, or none."""
    model["gpus"] = {}
    if pools and draw(st.booleans()):
        pool = draw(st.sampled_from(sorted(pools)))
        if pools[pool]["total"] != "autoscaled":
            pools[pool]["total"] += MOST_GPUS
        profiles = sorted(GPUS[pools[pool]["gpu"]].mig)
        if plugin.get("mig_strategy") == "single":
            profiles = profiles[:1]  # all models of a pool take the same
        model["gpus"] = {
            "pool": pool,
            "count": 1 if plugin.get("sharing", "none") != "none" else draw(st.integers(1, 2)),
        }
        if profiles and plugin.get("mig_strategy", "none") != "none":
            media = draw(st.sampled_from(["", "+me"])) if plugin["mig_strategy"] == "mixed" else ""
            profile = draw(st.sampled_from(profiles)) + media
            model["gpus"] |= {"count": 1, "mig_profile": profile}
    runs_vllm = model.get("runtime", {}).get("kind") == "vllm"
    if runs_vllm and not model["gpus"]:
        del model["runtime"]
    if not runs_vllm and model["gpus"]:
        model["gpus"]["count"] = 1
    if model["gpus"] and model["resources"]["memory_limit"] == "1Gi":
        model["resources"]["memory_limit"] = "20480Mi"  # each process with CUDA takes as much


def _make_room(weights: Group) -> None:
    """One place for a storage's files, and both halves of its key or none."""
    if weights["source"] == "s3":
        if not weights.get("cache"):
            weights |= {"size": "20Gi", "cache": None}
        else:
            weights.pop("size", None)
        if not (weights.get("access_key") and weights.get("secret_key")):
            weights |= {"access_key": None, "secret_key": None}


def _scale(draw: Draw, model: Group) -> None:
    """Replicas in order, targets that a server can exceed, and something that wakes a sleeping model."""
    scaling, server = model.setdefault("scaling", {}), model.setdefault("server", {})
    lowest, highest = sorted(draw(st.tuples(st.integers(0, 3), st.integers(1, 4))))
    scaling |= {"min_replicas": lowest, "max_replicas": max(1, highest)}
    scaling["fallback_replicas"] = draw(st.none() | st.integers(max(1, lowest), max(1, highest)))
    server["max_running_requests"] = server.get("max_running_requests", 16)
    for target, limit in (
        ("running_per_replica", "max_running_requests"),
        ("waiting_per_replica", "max_waiting_requests"),
    ):
        most = server.get(limit, 64)
        if most < 2:
            server[limit] = most = 2
        if target in scaling or most < 20:
            scaling[target] = draw(st.none() | st.floats(0.1, most * 0.8))
    if not model["gpus"]:
        scaling.pop("gpu_percent", None)
    for schedule in scaling.get("schedules", []):
        schedule["replicas"] = scaling["max_replicas"]
    awake = any(scaling.get(target, 1) for target in ("running_per_replica", "waiting_per_replica"))
    if (lowest == 0 or not awake) and not scaling.get("request_side") and not scaling.get("schedules"):
        scaling["request_side"] = {"source": "ingress-nginx", "per_replica": 2}


def _keep_time(model: Group) -> None:
    timing = model.get("timing", {})
    timing.pop("grace_seconds", None)
    if timing.get("answer_seconds", 0) > 600:
        timing["answer_seconds"] = 600


def _lock_doors(draw: Draw, model: Group, number: int) -> None:
    """One way in, at a place of its own; where it is public, with a key and TLS."""
    endpoint, exposure = model.get("endpoint", {}), model.get("exposure")
    if "port" in endpoint:
        endpoint["port"] = 30000 + number
    if endpoint.get("type") == "LoadBalancer":
        model.pop("exposure", None)
        endpoint["annotations"] = {"networking.acme.dev/kind": "internal"}
        if not endpoint.get("internal"):
            endpoint["tls"] = True
    if exposure:
        exposure["host"] = f"m{number}.acme.dev" if number else exposure["host"]
        if exposure.get("timeout_seconds") is not None:
            exposure["timeout_seconds"] += 600
        if exposure.get("issuer"):
            exposure["tls_secret"] = "chat-tls"
    request_side = model["scaling"].get("request_side")
    if request_side and request_side["source"] == "ingress-nginx":
        if exposure and exposure["kind"] == "ingress":
            exposure["class_name"] = "nginx"
        else:
            model["scaling"]["request_side"] = {"source": "query", "query": "sum(gateway_queue)", "per_replica": 2}
    if not model.get("network", {}).get("policy", True):
        model["network"] = {"policy": False}
    outside = exposure or endpoint.get("type") in ("LoadBalancer", "NodePort")
    if model.get("api_keys", {}).get("source") == "none" and outside:
        model["api_keys"] = {"source": "generated"}


def garbage() -> SearchStrategy[Any]:
    """Whatever YAML can hold."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("<yours>")
    names = st.text(max_size=10) | st.sampled_from(sorted(_names(StackConfig))) | st.integers()
    return st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4))


@st.composite
def spoilt(draw: Draw) -> Group:
    """A shipped stack's configuration in which up to three values, anywhere, are garbage."""
    config: Group = from_files(draw(st.sampled_from(["local", "dev", "prod"])))
    for _ in range(draw(st.integers(1, 3))):
        inner: Any = config
        while True:
            place = draw(st.sampled_from(list(inner) if isinstance(inner, dict) else range(len(inner))))
            if not (isinstance(inner[place], dict | list) and inner[place]) or draw(st.integers(0, 4)) == 0:
                break
            inner = inner[place]
        inner[place] = draw(garbage())
    return config


def _names(cls: type) -> set[str]:
    """Every key that the schema knows, wherever it stands."""
    hints = typing.get_type_hints(cls)
    names = {member.name for member in fields(cls)}
    for name in names.copy():
        todo = [hints[name]]
        while todo:
            hint = todo.pop()
            todo += typing.get_args(hint)
            if isinstance(hint, type) and is_dataclass(hint):
                names |= _names(hint)
    return names
