"""Whatever a request is computed together with, it gets what transformers' own `generate` gives it."""

import random
from dataclasses import dataclass

import pytest

from service.engine import attention
from tests.service.engine.networks import ARCHITECTURES, CONTEXT, Packed, answers, generated, network

ANSWER = 40  # so long that regions grow


@dataclass(frozen=True, kw_only=True)
class Case:
    packed: Packed
    prompts: list[list[int]]
    expected: list[list[int]]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def case(request: pytest.FixtureRequest) -> Case:
    made = network(request.param, **ARCHITECTURES[request.param])
    chance = random.Random(5)
    shared = [chance.randrange(3, 256) for _ in range(35)]
    prompts = [[chance.randrange(3, 256) for _ in range(length)] for length in (3, 1, 40, 17, 64)]
    prompts += [[*shared, 5, 6], [*shared, 7]]
    expected = [generated(made, prompt, ANSWER) for prompt in prompts]
    # A network that says the same after every prompt would prove nothing.
    assert len({tuple(answer) for answer in expected}) == len(expected)
    assert max(len(set(answer)) for answer in expected) > 3
    return Case(packed=Packed.of(made), prompts=prompts, expected=expected)


def test_alone(case: Case) -> None:
    assert [answers(case.packed.run([prompt], ANSWER))[0] for prompt in case.prompts] == case.expected


def test_together_in_chunks_while_others_decode(case: Case) -> None:
    run = case.packed.run(case.prompts, ANSWER, step_tokens=24, chunk_tokens=7, every=2)
    assert answers(run) == case.expected


def test_all_prompts_in_one_step(case: Case) -> None:
    assert answers(case.packed.run(case.prompts, ANSWER)) == case.expected


def test_with_attention_as_of_long_contexts(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "PRODUCTS_FROM", 0)
    assert answers(case.packed.run(case.prompts, ANSWER, step_tokens=24)) == case.expected


def test_with_prefix_hits(case: Case) -> None:
    run = case.packed.run(case.prompts * 2, ANSWER, page_count=40, max_running=2)
    assert [sequence.cached_tokens for sequence in run[len(case.prompts) - 1 :]] == [32, 0, 0, 32, 16, 48, 32, 32]
    assert answers(run) == case.expected * 2


def test_with_preemption(case: Case) -> None:
    run = case.packed.run(case.prompts, ANSWER, region_tokens=CONTEXT + 48, step_tokens=24)
    assert sum(sequence.preemptions for sequence in run) > 1
    assert answers(run) == case.expected


def test_before_the_last_step_is_read(case: Case) -> None:
    run = case.packed.run(
        case.prompts, ANSWER, region_tokens=CONTEXT + 48, step_tokens=24, chunk_tokens=7, every=2, overlap=True
    )
    assert sum(sequence.preemptions for sequence in run) > 1
    assert answers(run) == case.expected
