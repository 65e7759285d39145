"""What a person reads while something takes its time."""

import io

import pytest

from local import screen
from local.screen import LocalError, Screen, duration


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s")])
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_step_says_how_far_it_is_and_what_it_came_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "REPORT_SECONDS", 0.01)
    log = io.StringIO()
    with Screen(log).step("Build", 90) as step:
        step.report("3 of 7")
        while "3 of 7" not in log.getvalue():
            pass
        step.done("built")
    lines = log.getvalue().splitlines()
    assert "  Build: 3 of 7 (0 s of about 1 min 30 s)" in lines
    assert lines[-1] == "  Build: built (0 s)"


def test_failed_step_says_so_and_passes_its_error_on() -> None:
    log = io.StringIO()
    with pytest.raises(LocalError, match="no room"), Screen(log).step("Build"):
        raise LocalError("no room", "Make some.")
    assert log.getvalue() == "  Build: failed after 0 s\n"


def test_error_names_the_next_step() -> None:
    assert str(LocalError("The port is taken.", "Free it.")) == "The port is taken.\n  -> Free it."
