"""Background processes: found by what the kernel says, restarted when they should be others, ended for good."""

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.cluster.cluster import Cluster
from local.cluster.daemon import Daemon, alive, end, homes, marked_processes
from local.paths import Paths
from local.screen import LocalError, Screen

IGNORES_SIGTERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)
Make = Callable[..., Daemon]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Daemons that run a line of Python."""

    def daemon(name: str, program: str) -> Daemon:
        return Daemon(
            name=name,
            executable=Path(sys.executable),
            arguments=("-c", program),
            home=tmp_path,
            logs=tmp_path / "logs",
        )

    yield daemon
    end([process.pid for process in marked_processes(tmp_path)], patience=0)


def test_second_start_changes_nothing_and_another_declaration_restarts(make: Make) -> None:
    sleeper = make("sleeper", "import time; time.sleep(60)")
    assert sleeper.start()
    first = sleeper.process()
    assert first is not None
    assert not sleeper.start()
    assert sleeper.process() == first
    assert make("sleeper", "import time; time.sleep(61)").start()
    assert not alive(first.pid)
    sleeper.stop()
    assert sleeper.process() is None


def test_process_of_another_state_directory_is_nobody_of_ours(make: Make, tmp_path: Path) -> None:
    make("sleeper", "import time; time.sleep(60)").start()
    assert [process.name for process in marked_processes(tmp_path)] == ["sleeper"]
    assert list(marked_processes(tmp_path / "elsewhere")) == []
    assert str(tmp_path) in homes()
    with pytest.raises(LocalError, match="Set LLM_STACK_HOME=/"):
        Cluster.down(Paths(home=tmp_path / "elsewhere", run=tmp_path / "run"), Screen(io.StringIO()))


def test_dead_daemon_is_an_error_with_its_last_words(make: Make) -> None:
    failing = make("failing", "import sys; print('it begins'); sys.exit('fatal: no such disk')")
    failing.start()
    with pytest.raises(LocalError, match="failing ended: fatal: no such disk"):
        failing.wait_until(lambda: False, 10)


def test_daemon_that_is_never_ready_is_an_error(make: Make) -> None:
    sleeper = make("sleeper", "import time; print('still loading', flush=True); time.sleep(60)")
    sleeper.start()
    sleeper.wait_until(lambda: "still" in sleeper.last_words(), 10)
    with pytest.raises(LocalError, match="sleeper was not ready after 0 s: still loading"):
        sleeper.wait_until(lambda: False, 0.1)


def test_process_that_ignores_sigterm_is_killed(make: Make) -> None:
    stubborn = make("stubborn", IGNORES_SIGTERM)
    stubborn.start()
    stubborn.wait_until(lambda: stubborn.last_words() == "up", 10)
    process = stubborn.process()
    assert process is not None
    end([process.pid], patience=0.2)
    assert not alive(process.pid)


def test_killed_daemon_is_started_again(make: Make) -> None:
    sleeper = make("sleeper", "import time; time.sleep(60)")
    sleeper.start()
    process = sleeper.process()
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    while alive(process.pid):
        pass
    assert sleeper.start()
