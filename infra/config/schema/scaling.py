"""How many replicas, and what decides it."""

# ruff: noqa: RUF009 -- key() makes the field itself; it is no default that instances would share

from dataclasses import dataclass
from typing import ClassVar

from infra.config.parsing import key
from infra.config.schema.names import DAY_SECONDS

# As many nodes as Kubernetes is made for: no model has more replicas.
MOST_REPLICAS = 5000


@dataclass(frozen=True, kw_only=True)
class IngressRequests:
    """Requests that ingress-nginx counts for the model's Ingress; it does so without any pod too."""

    TAG: ClassVar[str] = "ingress-nginx"

    per_replica: float = key("requests per second that one replica should carry", minimum=0.01)


@dataclass(frozen=True, kw_only=True)
class QueryRequests:
    """A query of one's own for the load that waits outside the pods, such as a gateway's queue."""

    TAG: ClassVar[str] = "query"

    query: str = key(
        "PromQL that gives one number for the whole model: a sum without by",
        pattern=r"(sum|count)\s*\([\s\S]+\)(\s+or\s+vector\(0\))?",
        looks="a sum(...) over all series",
    )
    per_replica: float = key("the amount that one replica should carry", minimum=0.01)


RequestSide = IngressRequests | QueryRequests


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Hours for which replicas are kept ready."""

    timezone: str = key(
        "the time zone, such as Europe/Berlin", pattern=r"[\w+-]+(/[\w+-]+)*", looks="a time zone's name"
    )
    start: str = key(
        "when it begins, as cron says it: minute hour day month weekday", pattern=r"\S+( \S+){4}", looks="five fields"
    )
    end: str = key("when it ends, as cron says it", pattern=r"\S+( \S+){4}", looks="five fields")
    replicas: int = key("replicas at least in between", minimum=1)


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How many replicas, and what decides it. Of several signals the one that asks for most wins."""

    min_replicas: int = key(
        "replicas without load; 0 needs a signal from outside the pods (request_side or schedules)",
        default=1,
        minimum=0,
    )
    max_replicas: int = key("replicas at most", default=3, minimum=1, maximum=MOST_REPLICAS)
    waiting_per_replica: float | None = key(
        "queued requests per replica above which one more is wanted; null: not looked at", default=5.0, minimum=0.1
    )
    running_per_replica: float | None = key(
        "running requests per replica above which one more is wanted; null: not looked at", default=12.0, minimum=0.1
    )
    kv_cache_percent: float | None = key(
        "share of the KV cache in use per replica above which one more is wanted", default=None, minimum=1, maximum=90
    )
    gpu_percent: float | None = key(
        "GPU utilisation per replica above which one more is wanted (it shows that a GPU is busy, never that requests queue)",
        default=None,
        minimum=1,
        maximum=90,
    )
    request_side: RequestSide | None = key(
        "a signal from outside the pods, which is there at zero replicas too", default=None, tag="source"
    )
    schedules: tuple[Schedule, ...] = key("hours for which replicas are kept ready", default=())
    polling_seconds: int = key("seconds between KEDA's own looks at the signals", default=15, minimum=1, maximum=3600)
    up_window_seconds: int = key(
        "seconds for which load must last before replicas are added", default=0, minimum=0, maximum=3600
    )
    down_window_seconds: int = key(
        "seconds for which load must be low before replicas are removed", default=300, minimum=0, maximum=3600
    )
    cooldown_seconds: int | None = key(
        "seconds without load before the last replica goes (with min_replicas 0 only); a cold start and half when left out",
        default=None,
        minimum=1,
        maximum=DAY_SECONDS,
    )
    fallback_failures: int = key(
        "failed looks at Prometheus in a row before the fallback applies", default=3, minimum=1, maximum=1000
    )
    fallback_replicas: int | None = key(
        "replicas to hold at least while Prometheus does not answer; min_replicas (1 at least) when left out",
        default=None,
        minimum=1,
    )
