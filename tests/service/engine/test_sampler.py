"""Choosing tokens: the right distribution, the right order of the options, and nothing that one request does to another."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from transformers import LogitsProcessorList
from transformers.generation import logits_process as theirs

from service.engine import sampler
from service.engine.request import Sampling
from service.engine.sampler import Choice, Chooser, draw

DRAWS = 10_000
# Of a chi-square statistic, in standard deviations from its mean: right distributions exceed it once in ten thousand runs,
# and the draws below are always the same.
LIMIT = 4.0


def drawn(scores: torch.Tensor, **options: Any) -> Counter[int]:
    """How often which token comes when each of so many requests draws one."""
    choosers = [Chooser(Sampling(max_tokens=1, seed=seed, **options), [], frozenset()) for seed in range(DRAWS)]
    tokens: Counter[int] = Counter()
    for start in range(0, DRAWS, 1000):
        some = choosers[start : start + 1000]
        for choice in draw(scores.repeat(len(some), 1), some).read():
            assert isinstance(choice, Choice)
            tokens[choice.token] += 1
    return tokens


def deviation(found: Counter[int], probabilities: torch.Tensor) -> float:
    """How far the counts are from the probabilities, in standard deviations of chi-square; rare tokens count together."""
    expected = probabilities.double() * DRAWS
    assert all(expected[token] > 0 for token in found), "a token that cannot come has come"
    often = (expected >= 5).nonzero().flatten().tolist()
    cells = [(found[token], expected[token].item()) for token in often]
    rest = DRAWS - sum(count for count, _ in cells), DRAWS - sum(count for _, count in cells)
    if rest[1] >= 5:
        cells.append(rest)
    statistic = sum((count - wanted) ** 2 / wanted for count, wanted in cells)
    freedom = max(len(cells) - 1, 1)
    return (statistic - freedom) / math.sqrt(2 * freedom)


def scores_of(kind: str) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    size, spread = {"peaked": (1500, 3.0), "flat": (2000, 0.3), "small": (50, 1.5)}[kind]
    return torch.randn(size, generator=random) * spread


@pytest.mark.parametrize("kind", ["small", "peaked", "flat"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.7},
        {"temperature": 1.6, "top_k": 20},
        {"top_p": 0.6},
        {"min_p": 0.2},
        {"temperature": 0.8, "top_k": 300, "top_p": 0.9, "min_p": 0.02},
    ],
    ids=str,
)
def test_draws_follow_the_distribution_of_transformers(kind: str, options: dict[str, float]) -> None:
    scores = scores_of(kind)
    warpers: Any = LogitsProcessorList()
    if "temperature" in options:
        warpers.append(theirs.TemperatureLogitsWarper(options["temperature"]))
    if "top_k" in options:
        warpers.append(theirs.TopKLogitsWarper(int(options["top_k"])))
    if "top_p" in options:
        warpers.append(theirs.TopPLogitsWarper(options["top_p"]))
    if "min_p" in options:
        warpers.append(theirs.MinPLogitsWarper(options["min_p"]))
    wanted = torch.softmax(warpers(torch.zeros((1, 0), dtype=torch.int64), scores[None].clone())[0], -1)
    assert deviation(drawn(scores, **options), wanted) < LIMIT


def test_wrong_distribution_would_be_noticed() -> None:
    scores = scores_of("small")
    assert deviation(drawn(scores, temperature=1.1), torch.softmax(scores, -1)) > LIMIT


@pytest.mark.parametrize("draws", [0, 1, 100], ids="{} draws".format)
@pytest.mark.parametrize("options", [{"top_p": 0.3}, {"top_p": 0.9, "min_p": 0.5}], ids=str)
@pytest.mark.parametrize("kind", ["peaked", "flat"])
def test_top_p_over_many_tokens_is_exact_with_and_without_looking_for_its_bound(
    monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, float], draws: int
) -> None:
    monkeypatch.setattr(sampler, "CANDIDATES", 1)
    monkeypatch.setattr(sampler, "DRAWS", draws)
    scores = scores_of(kind)
    warpers: Any = LogitsProcessorList([theirs.TopPLogitsWarper(options["top_p"])])
    if "min_p" in options:
        warpers.append(theirs.MinPLogitsWarper(options["min_p"]))
    wanted = torch.softmax(warpers(torch.zeros((1, 0), dtype=torch.int64), scores[None].clone())[0], -1)
    assert deviation(drawn(scores, **options), wanted) < LIMIT


def test_same_seed_draws_the_same_whatever_else_is_drawn() -> None:
    random = torch.Generator().manual_seed(2)
    steps = [torch.randn(500, generator=random) for _ in range(30)]
    mine = Sampling(max_tokens=30, seed=11, top_p=0.9)

    def tokens(others: int) -> list[int]:
        chooser = Chooser(mine, [], frozenset())
        found = []
        for index, step in enumerate(steps):
            beside = [
                Chooser(Sampling(max_tokens=1, temperature=index % 2, top_k=other * 7), [], frozenset())
                for other in range(others if index % 3 else 0)
            ]
            choices = draw(step.repeat(len(beside) + 1, 1), [*beside, chooser]).read()
            assert isinstance(choices[-1], Choice)
            found.append(choices[-1].token)
        return found

    assert tokens(0) == tokens(1) == tokens(5)


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1])
def test_seeds_differ(seed: int) -> None:
    def token(number: int) -> Any:
        return draw(torch.zeros(1, 10_000), [Chooser(Sampling(max_tokens=1, seed=number), [], frozenset())]).read()[0]

    assert token(seed) == token(seed)
    assert token(seed) != token(seed + 1)


def adjusted(scores: torch.Tensor, prompt: list[int], answer: list[int], **options: Any) -> torch.Tensor:
    chooser = Chooser(Sampling(max_tokens=9, **options), prompt, frozenset({1, 2}))
    for token in answer:
        chooser.accept(token)
    row = scores.clone()
    chooser.adjust(row)
    return row


def test_repetition_penalty_is_transformers() -> None:
    scores = scores_of("small")
    prompt, answer = [3, 4, 4], [5, 5, 9]
    penalty = theirs.RepetitionPenaltyLogitsProcessor(1.7)
    wanted = penalty(torch.tensor([prompt + answer]), scores[None].clone())[0]
    assert torch.equal(adjusted(scores, prompt, answer, repetition_penalty=1.7), wanted)


def test_logit_bias_is_transformers() -> None:
    scores = scores_of("small")
    wanted = theirs.SequenceBiasLogitsProcessor([[[3], 2.5], [[7], -100.0]])
    assert torch.allclose(
        adjusted(scores, [], [], logit_bias={3: 2.5, 7: -100.0}),
        wanted(torch.tensor([[0]]), scores[None].clone())[0],
    )


def test_presence_and_frequency_penalties_count_the_answer_only() -> None:
    scores = torch.zeros(10)
    row = adjusted(scores, [3, 3], [4, 4, 5], presence_penalty=0.5, frequency_penalty=0.25)
    assert row.tolist() == [0, 0, 0, 0, -1.0, -0.75, 0, 0, 0, 0]


def test_min_tokens_hold_every_end_back() -> None:
    early = adjusted(torch.zeros(10), [], [4], min_tokens=2, stop_token_ids=frozenset({5}))
    assert early.isinf().nonzero().flatten().tolist() == [1, 2, 5]
    assert adjusted(torch.zeros(10), [], [4, 4], min_tokens=2).isfinite().all()
    ignoring = adjusted(torch.zeros(10), [], [], min_tokens=2, ignore_eos=True)
    assert ignoring.isfinite().all()


def test_logprobs_are_those_of_the_model_before_any_option() -> None:
    scores = scores_of("small")
    logs = torch.log_softmax(scores, -1)
    options = Sampling(max_tokens=1, temperature=0, top_logprobs=3, logit_bias={5: 100.0})
    (choice,) = draw(scores[None].clone(), [Chooser(options, [], frozenset())]).read()
    assert isinstance(choice, Choice)
    assert choice.logprob is not None
    assert (choice.token, choice.logprob.token) == (5, 5)
    assert choice.logprob.logprob == pytest.approx(logs[5].item())
    best = logs.topk(3)
    assert [token for token, _ in choice.logprob.top] == best.indices.tolist()
    assert [value for _, value in choice.logprob.top] == pytest.approx(best.values.tolist())
    (none,) = draw(scores[None].clone(), [Chooser(Sampling(max_tokens=1, top_logprobs=0), [], frozenset())]).read()
    assert isinstance(none, Choice)
    assert none.logprob is not None
    assert none.logprob.top == ()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_scores_that_are_no_numbers_fail_their_own_request_only(bad: float, temperature: float) -> None:
    scores = scores_of("small").repeat(4, 1)
    scores[1, 7] = bad
    scores[3] = -math.inf
    options = Sampling(max_tokens=1, temperature=temperature, seed=1, top_p=0.9)
    choices = draw(scores, [Chooser(options, [], frozenset()) for _ in range(4)]).read()
    assert [isinstance(choice, Choice) for choice in choices] == [True, False, True, False]
    assert choices[0] == choices[2]


@pytest.mark.parametrize("options", [{"logit_bias": {10**6: 1.0}}, {"top_k": 2**63}], ids=str)
def test_option_that_cannot_be_applied_fails_its_own_request_only(options: dict[str, Any]) -> None:
    scores = scores_of("small").repeat(2, 1)
    wrong = Chooser(Sampling(max_tokens=1, **options), [], frozenset())
    good = Chooser(Sampling(max_tokens=1, temperature=0), [], frozenset())
    failed, chosen = draw(scores, [wrong, good]).read()
    assert isinstance(failed, IndexError | ValueError)
    assert isinstance(chosen, Choice)
