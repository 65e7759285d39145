"""Times of a pod's start and end, all derived from one group of the configuration."""

import math
from dataclasses import dataclass

from infra.config.schema import Scaling, Timing

# Between the end of the drain and the kill: the server closes its connections and the process ends.
GRACE_MARGIN_SECONDS = 10
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

    pre_stop: int
    drain: int
    grace: int
    startup_failures: int  # startup probes that may fail
    progress_deadline: int  # one pod's turn
    deployment_timeout: int  # the whole rollout

    @classmethod
    def of(cls, timing: Timing, scaling: Scaling) -> "Lifecycle":
        """The times of a model.

        A rollout replaces one pod after the other, so its timeout grows with the replicas that run without load; one in
        the middle of a peak can take longer, and the next `pulumi up` waits for its rest.
        """
        grace = timing.grace_seconds or timing.pre_stop_seconds + timing.drain_seconds + GRACE_MARGIN_SECONDS
        return cls(
            pre_stop=timing.pre_stop_seconds,
            drain=timing.drain_seconds,
            grace=grace,
            startup_failures=math.ceil(timing.startup_seconds / STARTUP_PERIOD_SECONDS),
            progress_deadline=timing.startup_seconds + SCHEDULING_SECONDS,
            deployment_timeout=timing.startup_seconds * scaling.min_replicas + SCHEDULING_SECONDS,
        )
