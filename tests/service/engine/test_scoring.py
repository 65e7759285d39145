"""Probabilities of a prompt's tokens: those of one plain forward pass, however the prompt was computed."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from service.engine import scheduler
from service.engine.request import TokenLogprob
from service.engine.sampler import logprobs
from service.engine.scheduler import Sequence, Turn
from tests.service.engine.networks import ARCHITECTURES, CONTEXT, Packed, answers, generated, network

ANSWER = 40  # so long that regions grow
TOP = 3
# Of logarithms in float32 that were summed up in another order.
ROUNDING = 1e-4
Told = dict[Sequence, list[TokenLogprob]]


@dataclass(frozen=True, kw_only=True)
class Case:
    packed: Packed
    prompts: list[list[int]]
    answers: list[list[int]]
    logs: list[torch.Tensor]  # (tokens - 1, vocabulary) of each prompt, by transformers alone

    def check(self, run: list[Sequence], told: Told, places: list[int]) -> None:
        for index, sequence in zip(places, run, strict=True):
            prompt, logs, found = self.prompts[index], self.logs[index], told.get(sequence, [])
            assert [one.token for one in found] == prompt[1:]
            for one, row in zip(found, logs, strict=True):
                assert one.logprob == pytest.approx(row[one.token].item(), abs=ROUNDING)
                best = row.topk(TOP).values.tolist()
                assert [log for _, log in one.top] == pytest.approx(best, abs=ROUNDING)
                assert [row[token].item() for token, _ in one.top] == pytest.approx(best, abs=ROUNDING)
                assert one.rank is not None
                likelier = (row > one.logprob + ROUNDING).sum().item(), (row > one.logprob - ROUNDING).sum().item()
                assert likelier[0] < one.rank <= likelier[1] + 1


# With a scale and a bound of their own on the scores, with windows, with experts, and without any of these.
@pytest.fixture(scope="module", params=["llama", "gemma2", "granite", "cohere2", "mixtral", "gpt2"])
def case(request: pytest.FixtureRequest) -> Case:
    made = network(request.param, **ARCHITECTURES[request.param])
    chance = random.Random(6)
    shared = [chance.randrange(3, 256) for _ in range(40)]
    prompts = [[chance.randrange(3, 256) for _ in range(length)] for length in (1, 2, 33, 70)]
    prompts += [[*shared, 5, 6], [*shared, 7]]
    expected = [generated(made, prompt, ANSWER) for prompt in prompts]
    with torch.inference_mode():
        logs = [torch.log_softmax(made(torch.tensor([prompt])).logits[0, :-1].float(), -1) for prompt in prompts]
    return Case(packed=Packed.of(made), prompts=prompts, answers=expected, logs=logs)


def teller(told: Told) -> Callable[[Turn, torch.Tensor], None]:
    def tell(turn: Turn, rows: torch.Tensor) -> None:
        tokens = [turn.sequence.tokens[place] for place in turn.scored]
        told.setdefault(turn.sequence, []).extend(logprobs(rows, tokens, TOP))

    return tell


def test_alone(case: Case) -> None:
    for index, prompt in enumerate(case.prompts):
        told: Told = {}
        run = case.packed.run([prompt], ANSWER, scored=[True], tell=teller(told))
        case.check(run, told, [index])
        assert answers(run) == [case.answers[index]]


def test_without_an_answer(case: Case) -> None:
    told: Told = {}
    every = [True] * len(case.prompts)
    run = case.packed.run(case.prompts, 0, scored=every, tell=teller(told), step_tokens=24, chunk_tokens=7)
    case.check(run, told, list(range(len(run))))


def test_in_chunks_beside_others(case: Case) -> None:
    told: Told = {}
    run = case.packed.run(
        case.prompts * 2,
        ANSWER,
        scored=[False] * len(case.prompts) + [True] * len(case.prompts),
        tell=teller(told),
        step_tokens=24,
        chunk_tokens=7,
        every=2,
    )
    case.check(run[len(case.prompts) :], told, list(range(len(case.prompts))))
    assert answers(run) == case.answers * 2


def test_few_at_a_time(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "SCORED_TOKENS", 5)
    told: Told = {}
    every = [True] * len(case.prompts)
    run = case.packed.run(case.prompts, ANSWER, scored=every, tell=teller(told))
    case.check(run, told, list(range(len(run))))
    assert answers(run) == case.answers


def test_prompt_that_the_cache_knows_is_computed_all_the_same(case: Case) -> None:
    told: Told = {}
    count = len(case.prompts)
    flags = [False] * count + [True] * count + [False] * count
    run = case.packed.run(case.prompts * 3, ANSWER, page_count=40, max_running=1, scored=flags, tell=teller(told))
    case.check(run[count : 2 * count], told, list(range(count)))
    assert [sequence.cached_tokens for sequence in run[count : 2 * count]] == [0] * count
    assert all(sequence.cached_tokens for sequence in run[-count:] if sequence.prompt_tokens > 17)
    assert answers(run) == case.answers * 3


@pytest.mark.parametrize("pages", [0, 40])
def test_with_preemption(case: Case, pages: int) -> None:
    told: Told = {}
    every = [True] * (2 * len(case.prompts))
    run = case.packed.run(
        case.prompts * 2,
        ANSWER,
        region_tokens=CONTEXT + 48,
        page_count=pages,
        step_tokens=24,
        scored=every,
        tell=teller(told),
    )
    assert any(sequence.preemptions for sequence in run)
    case.check(run, told, list(range(len(case.prompts))) * 2)
    assert answers(run) == case.answers * 2


def test_scores_that_are_no_numbers_are_no_probabilities() -> None:
    with pytest.raises(ValueError, match="not numbers"):
        logprobs(torch.full((2, 8), torch.nan), [1, 2], 0)
