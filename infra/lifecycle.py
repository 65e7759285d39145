"""Times of a pod's start and end, all derived from one group of the configuration."""

import math
from dataclasses import dataclass

from infra.config.schema import Exposure, Scaling, Timing

# Between the end of the drain and the kill: the server closes its connections and the process ends.
GRACE_MARGIN_SECONDS = 10
# A proxy outlasts the server's own end of an answer, which says what happened.
PROXY_MARGIN_SECONDS = 15
# Scheduling, and what the kubelet and the controllers need to notice.
SCHEDULING_SECONDS = 30
STARTUP_PERIOD_SECONDS = 5
READINESS_PERIOD_SECONDS = 5
LIVENESS_PERIOD_SECONDS = 10
# A server whose interpreter is busy loading or computing may be slow to answer for a moment.
PROBE_TIMEOUT_SECONDS = 5
# Not ready at the first failure: /ready says so only when the server drains or its engine has stopped.
READINESS_FAILURES = 2
# Half a minute without an answer: the process hangs.
LIVENESS_FAILURES = 3


@dataclass(frozen=True, kw_only=True)
class Lifecycle:
    """What the Deployment needs to know, in seconds unless said otherwise."""

    answer: int  # the longest of a request
    pre_stop: int
    drain: int
    grace: int
    startup_failures: int  # startup probes that may fail
    progress_deadline: int  # one pod's turn
    deployment_timeout: int  # the whole rollout

    @classmethod
    def of(cls, timing: Timing, scaling: Scaling, *, provisioning: int = 0, in_place: bool = False) -> "Lifecycle":
        """The times of a model.

        ``provisioning``: seconds until a new node takes a pod; ``in_place``: whether an old pod ends before its successor has
        a place. A rollout replaces one pod after the other, so its timeout grows with the replicas that run without load; one in
        the middle of a peak can take longer, and the next `pulumi up` waits for its rest.
        """
        drain = drain_seconds(timing)
        grace = timing.grace_seconds or timing.pre_stop_seconds + drain + GRACE_MARGIN_SECONDS
        turn = provisioning + timing.startup_seconds + (grace if in_place else 0)
        return cls(
            answer=timing.answer_seconds,
            pre_stop=timing.pre_stop_seconds,
            drain=drain,
            grace=grace,
            startup_failures=math.ceil(timing.startup_seconds / STARTUP_PERIOD_SECONDS),
            progress_deadline=turn + SCHEDULING_SECONDS,
            deployment_timeout=turn * max(1, scaling.min_replicas) + SCHEDULING_SECONDS,
        )


def drain_seconds(timing: Timing) -> int:
    """Every answer gets to its end, unless the configuration says otherwise."""
    return timing.drain_seconds or timing.answer_seconds


def gateway_timeout(exposure: Exposure, answer: int) -> int:
    """Seconds until a proxy before the model gives up."""
    return exposure.timeout_seconds or answer + PROXY_MARGIN_SECONDS
