"""The recorded decoding step. What records here computes anew at each replay: all but the speed is as with a graph."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch

from service.engine.graphs import Compute, reserved_bytes
from tests.service.engine.networks import ARCHITECTURES, Packed, answers, generated, network

PROMPTS = [[7] * 40, [9, 10], list(range(20, 80))]
ANSWER = 24


@dataclass
class Recorder:
    """Its replays write their scores where those of the recording are, as a graph does."""

    rows: list[int] = field(default_factory=list)
    replays: list[int] = field(default_factory=list)

    def __call__(self, compute: Compute) -> tuple[torch.Tensor, Callable[[], None]]:
        scores = compute()
        self.rows.append(len(scores))

        def replay() -> None:
            self.replays.append(len(scores))
            scores.copy_(compute())

        return scores, replay


@pytest.mark.usefixtures("paged_kernel")
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("architecture", ["qwen3", "mistral", "gpt2"])
def test_recorded_answers_are_those_of_generate(architecture: str, overlap: bool) -> None:
    made = network(architecture, **ARCHITECTURES[architecture])
    expected = [generated(made, prompt, ANSWER) for prompt in PROMPTS]
    record = Recorder()
    run = Packed.of(made).run(PROMPTS, ANSWER, every=3, max_running=3, page_count=20, record=record, overlap=overlap)
    assert answers(run) == expected
    assert record.rows == [4, 2, 1]
    # One of each is the comparison with what is not recorded; three sequences are rows of the graph for four.
    assert set(record.replays[len(record.rows) :]) == {1, 2, 4}


@pytest.mark.usefixtures("paged_kernel")
def test_prompts_whose_scores_are_told_are_computed_as_ever() -> None:
    told: list[int] = []
    record = Recorder()
    Packed.of(network("qwen3")).run(
        [[5, 6]],
        3,
        scored=[True],
        chunk_tokens=1,
        step_tokens=1,
        tell=lambda turn, _: told.extend(turn.scored),
        record=record,
    )
    assert told == [1]
    assert len(record.replays) == len(record.rows) + 3  # the comparisons, and a step for each token of the answer


def frozen(compute: Compute) -> tuple[torch.Tensor, Callable[[], None]]:
    """Does not follow its inputs."""
    scores = compute()
    return scores, lambda: None


def failing(compute: Compute) -> tuple[torch.Tensor, Callable[[], None]]:
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.usefixtures("paged_kernel")
@pytest.mark.parametrize(("record", "reason"), [(frozen, "gives other scores"), (failing, "not permitted")])
def test_what_cannot_be_recorded_is_computed_as_ever(
    record: Callable[[Compute], tuple[torch.Tensor, Callable[[], None]]], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = network("qwen3")
    expected = [generated(made, prompt, ANSWER) for prompt in PROMPTS]
    assert answers(Packed.of(made).run(PROMPTS, ANSWER, max_running=3, record=record)) == expected
    assert reason in caplog.text


def test_nothing_is_recorded_without_the_paged_kernel() -> None:
    record = Recorder()
    Packed.of(network("qwen3")).run([[5, 6]], 3, record=record)
    assert record.rows == []


def test_room_is_kept_for_the_scores() -> None:
    assert reserved_bytes(5, 1000, torch.bfloat16) == (1 + 2 + 4 + 8) * 1000 * 2
