"""The processes of a divided model (ranks): torch's own launcher, that of `torchrun`, starts them and ends all when one ends.

They are the same command with `RANK` in its environment, so `torchrun --nproc-per-node N -m service` does the same.
"""

import ctypes
import os
import signal
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress

from service import logs
from service.settings import Settings

FAILURE_STATUS = 1
RANK = "RANK"
# Between two looks whether all of them live.
LOOK_SECONDS = 0.5
# After the drain: rank 0 writes its last words, closes its connections, and sends the others home.
END_SECONDS = 15
# Of Linux's prctl: the signal that a process gets when the one that started it is gone.
PARENT_DEATH_SIGNAL = 1


def is_rank(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of those that a launcher has started."""
    return RANK in environment


def launch(settings: Settings) -> int:
    """Runs the ranks until one ends or SIGTERM comes; returns the exit status: 0 after SIGTERM, else that of the first to end."""
    # Imported here: torch takes seconds, in which SIGTERM ends the process already.
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, launch_agent

    logs.configure(settings.log_level)
    os.environ.update(_environment(os.environ, settings))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=settings.tensor_parallel,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,  # whoever started this process starts it again: then memory is free, and nothing is left behind
        monitor_interval=LOOK_SECONDS,
        shutdown_timeout=settings.drain_timeout_seconds + END_SECONDS,
    )
    try:
        launch_agent(config, sys.executable, ["-m", "service"])
    except SignalException:
        return 0
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode  # it has said why
        print(f"rank {rank} was ended by {signal.Signals(-failure.exitcode).name}", file=sys.stderr)
        return FAILURE_STATUS
    return 0


def become_rank() -> None:
    """For a process that was launched: it hears of signals from its launcher only, and does not outlive it."""
    with suppress(PermissionError):  # it leads a session: then no terminal's signals come from elsewhere
        os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _environment(environment: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """What the ranks find besides the variables of the launcher."""
    processors = len(os.sched_getaffinity(0))
    added = {
        # All of them compute at once: more threads than processors would wait for each other.
        "OMP_NUM_THREADS": str(max(1, processors // settings.tensor_parallel)),
        # They are on one machine; the host's name may not even resolve.
        "GLOO_SOCKET_IFNAME": "lo",
    }
    forced = {"CUDA_VISIBLE_DEVICES": ""} if settings.device == "cpu" else {}  # transformers takes a GPU that it sees
    return {name: value for name, value in added.items() if name not in environment} | forced
