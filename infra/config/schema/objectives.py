"""What users of a model are promised."""

from dataclasses import dataclass

from infra.config.parsing import key


@dataclass(frozen=True, kw_only=True)
class Objectives:
    """What users are promised; alerts are made from it.

    Latencies are counted in buckets, so each must be one of its histogram's (``service/metric_names.py``).
    """

    first_token_seconds: float = key(
        "seconds within which 95 % of the answers begin", default=2.5, minimum=0.001, maximum=2560
    )
    inter_token_seconds: float = key(
        "seconds within which 95 % of the following tokens come", default=0.2, minimum=0.01, maximum=80
    )
    first_token_p99_seconds: float | None = key(
        "seconds within which 99 % of the answers begin; null: not watched", default=10.0, minimum=0.001, maximum=2560
    )
    inter_token_p99_seconds: float | None = key(
        "seconds within which 99 % of the following tokens come; null: not watched",
        default=0.5,
        minimum=0.01,
        maximum=80,
    )
    error_percent: float = key("share of requests that may fail", default=1.0, minimum=0.01, maximum=50)
