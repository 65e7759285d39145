"""The engine with a real model and its real thread, as the API sees it."""

import asyncio
import json
import random
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from transformers import AutoModelForCausalLM

from service.engine import engine as engine_module
from service.engine.answer import Answer
from service.engine.engine import Engine, EngineState
from service.engine.grammar import FORMATS
from service.engine.request import (
    ContextLengthError,
    EngineClosedError,
    Generation,
    Grammar,
    GrammarError,
    Piece,
    QueueFullError,
    Sampling,
)
from service.engine.runner import Result, Runner
from service.engine.sampler import Drawn
from service.engine.scheduler import Sequence, Turn
from service.metrics import Metrics
from service.settings import Settings

Answered = TypeVar("Answered")
CONTEXT = 512
PROMPT = [40, 41, 42, 43]


@pytest.fixture(scope="module", params=["in turn", "overlapping"], autouse=True)
def overlapping(request: pytest.FixtureRequest) -> Iterator[bool]:
    """As on a processor, which reads what a step drew before it begins the next one, and as on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "overlaps", lambda *_: request.param == "overlapping")
        yield request.param == "overlapping"


@pytest.fixture(scope="module")
def metrics(overlapping: bool) -> Metrics:
    return Metrics("tiny")


def started(model: Path, metrics: Metrics, **settings: Any) -> Engine:
    options = {"max_model_len": CONTEXT, "max_running_requests": 6, "max_waiting_requests": 4, "kv_cache_mib": 16}
    engine = Engine(Settings(model=str(model), device="cpu", **{**options, **settings}), metrics)
    engine.start()
    deadline = time.monotonic() + 60
    while engine.state is EngineState.LOADING:
        assert time.monotonic() < deadline, engine.progress
        time.sleep(0.01)
    assert engine.state is EngineState.SERVING, engine.progress
    return engine


@pytest.fixture(scope="module")
def engine(model: Path, metrics: Metrics) -> Iterator[Engine]:
    made = started(model, metrics)
    yield made
    made.stop("the test is over")


@pytest.fixture(autouse=True)
def _nothing_is_left(engine: Engine, metrics: Metrics) -> Iterator[None]:
    """Whatever a test does to its requests, every gauge is back where it was."""
    yield
    deadline = time.monotonic() + 10
    while any(gauge(metrics, name) for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")):
        assert time.monotonic() < deadline, metrics.text().decode()
        time.sleep(0.01)
    assert engine.state is EngineState.SERVING


def gauge(metrics: Metrics, name: str, **labels: str) -> float:
    lines = [line for line in metrics.text().decode().splitlines() if line.startswith(f"vllm:{name}{{")]
    values = [
        float(line.rpartition(" ")[2])
        for line in lines
        if all(f'{label}="{value}"' in line for label, value in labels.items())
    ]
    assert values, name
    return sum(values)


async def whole(generation: Generation) -> Piece:
    pieces = [piece async for piece in generation]
    return sum(pieces[1:], pieces[0])


def run(work: Callable[[], Coroutine[Any, Any, Answered]]) -> Answered:
    return asyncio.run(asyncio.wait_for(work(), 60))


def complete(engine: Engine, prompt: list[int] | None = None, **options: Any) -> Piece:
    async def one() -> Piece:
        return await whole(engine.submit(prompt or PROMPT, Sampling(**{"max_tokens": 12, "temperature": 0, **options})))

    return run(one)


def together(engine: Engine, *requests: tuple[list[int], Sampling]) -> list[Piece]:
    async def all_of_them() -> list[Piece]:
        return await asyncio.gather(*(whole(engine.submit(*request)) for request in requests))

    return run(all_of_them)


def test_answers_are_those_of_generate(engine: Engine, model: Path) -> None:
    network: Any = AutoModelForCausalLM.from_pretrained(model)
    with torch.inference_mode():
        wanted = network.generate(torch.tensor([PROMPT]), max_new_tokens=30, do_sample=False)[0, len(PROMPT) :].tolist()
    found = complete(engine, max_tokens=30)
    assert list(found.tokens) == wanted
    assert found.text == engine.model.tokenizer.decode(wanted, skip_special_tokens=True)


def test_step_is_read_before_or_while_the_next_one_is_computed(
    engine: Engine, overlapping: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            done.append(name)
            return real(*arguments)

        return noted

    monkeypatch.setattr(Runner, "run", noting("run", Runner.run))
    monkeypatch.setattr(Drawn, "read", noting("read", Drawn.read))
    complete(engine, max_tokens=4, ignore_eos=True)
    if overlapping:
        assert done == ["run", *["run", "read"] * 3, "read"]
    else:
        assert done == ["run", "read"] * 4


def test_same_seed_gives_the_same_answer_whatever_else_runs(engine: Engine) -> None:
    mine = (PROMPT, Sampling(max_tokens=40, seed=9, ignore_eos=True))
    (alone,) = together(engine, mine)
    others = [([50 + index] * (30 * index + 1), Sampling(max_tokens=5 + 9 * index)) for index in range(5)]
    assert together(engine, *others, mine)[-1].tokens == alone.tokens
    assert together(engine, mine, *others[:2])[0].tokens == alone.tokens


def test_ends(engine: Engine) -> None:
    free = complete(engine, ignore_eos=True)
    assert (len(free.tokens), free.finish_reason, free.stop_reason) == (12, "length", None)
    token = next(token for token in free.tokens if token != free.tokens[0])
    at = free.tokens.index(token)
    stopped = complete(engine, stop_token_ids=frozenset({token}))
    assert (stopped.tokens, stopped.finish_reason, stopped.stop_reason) == (free.tokens[: at + 1], "stop", token)
    assert free.text.startswith(stopped.text)
    later = complete(engine, stop_token_ids=frozenset({token}), min_tokens=at + 2)
    assert len(later.tokens) >= at + 2


def test_end_token_ends_and_is_no_text(engine: Engine) -> None:
    (end,) = engine.model.end_tokens
    ended = complete(engine, logit_bias={end: 1000.0})
    assert (ended.text, ended.tokens, ended.finish_reason) == ("", (end,), "stop")
    assert len(complete(engine, logit_bias={end: 1000.0}, min_tokens=3).tokens) == 4
    assert complete(engine, logit_bias={end: 1000.0}, ignore_eos=True).finish_reason == "length"


@pytest.mark.parametrize("length", [1, 2, 5])
def test_stop_string_across_tokens_never_shows_in_part(engine: Engine, length: int) -> None:
    text = complete(engine, max_tokens=40, ignore_eos=True).text
    stop = text[9 : 9 + length]

    async def pieces() -> list[Piece]:
        options = Sampling(max_tokens=40, temperature=0, ignore_eos=True, stop=("never there", stop))
        return [piece async for piece in engine.submit(PROMPT, options)]

    told = run(pieces)
    end = text.find(stop)
    for index in range(len(told)):
        assert text[:end].startswith("".join(piece.text for piece in told[: index + 1]))
    assert "".join(piece.text for piece in told) == text[:end]
    assert (told[-1].finish_reason, told[-1].stop_reason) == ("stop", stop)


def test_logprobs_come_with_every_token(engine: Engine) -> None:
    answer = complete(engine, top_logprobs=2)
    assert [entry.token for entry in answer.logprobs] == list(answer.tokens)
    assert all(entry.top[0] == (entry.token, entry.logprob) for entry in answer.logprobs)
    assert all(len(entry.top) == 2 for entry in answer.logprobs)
    assert complete(engine).logprobs == ()


def test_prompt_alone_has_its_logprobs_and_is_counted(engine: Engine, metrics: Metrics) -> None:
    names = ("prompt_tokens_total", "generation_tokens_total", "request_success_total")
    before = [gauge(metrics, name) for name in names]
    prompt = [44, 45, 46, 47, 48]
    only = complete(engine, prompt, max_tokens=0, prompt_logprobs=1)
    assert (only.text, only.tokens, only.finish_reason) == ("", (), "length")
    assert [one.token for one in only.prompt_logprobs] == prompt[1:]
    again = complete(engine, prompt, prompt_logprobs=1)
    assert [one.logprob for one in again.prompt_logprobs] == pytest.approx(
        [one.logprob for one in only.prompt_logprobs]
    )
    assert complete(engine, prompt, max_tokens=0).prompt_logprobs == ()
    after = [gauge(metrics, name) for name in names]
    assert [new - old for new, old in zip(after, before, strict=True)] == [15, 12, 3]


def test_prompt_whose_scores_are_no_numbers_fails_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Runner.run
    computed: list[tuple[Sequence, int]] = []

    @torch.inference_mode()
    def poisoned(self: Runner, turns: list[Turn], drawn: Any) -> Result:
        computed.extend((turn.sequence, turn.start) for turn in turns)
        result = real(self, turns, drawn)
        for _, scores in result.told():
            scores.fill_(float("nan"))
        return result

    monkeypatch.setattr(Runner, "run", poisoned)
    failed = failing(engine, ([5] * 20, Sampling(max_tokens=5, prompt_logprobs=1)))
    assert (failed.finish_reason, failed.error) == ("error", "ScoresError: the model's scores are not numbers")
    assert len(computed) == len(set(computed))  # their step is not computed again without it


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(3))
def test_answer_obeys_its_schema(engine: Engine, seed: int) -> None:
    grammar = Grammar(kind="json_schema", definition=json.dumps(SCHEMA))
    answer = complete(engine, max_tokens=200, temperature=1.5, seed=seed, grammar=grammar)
    assert answer.finish_reason == "stop"
    value = json.loads(answer.text)
    assert set(value) == {"name", "age"}
    assert 0 <= value["age"] <= 99


def test_other_grammars(engine: Engine) -> None:
    regex = complete(engine, grammar=Grammar(kind="regex", definition=r"[a-c]{3}-\d{2}"), max_tokens=20)
    assert re.fullmatch(r"[a-c]{3}-\d{2}", regex.text)
    choices = ["yes", 'no, "never"', "größer"]
    answers = {
        complete(engine, grammar=Grammar(kind="choice", definition=json.dumps(choices)), temperature=5, seed=seed).text
        for seed in range(12)
    }
    assert answers <= set(choices)
    assert len(answers) > 1
    begun = complete(engine, grammar=Grammar(kind="json_object"), max_tokens=8)
    assert begun.text.startswith("{")


def test_grammars_beside_each_other_and_free_text(engine: Engine) -> None:
    free = (PROMPT, Sampling(max_tokens=12, temperature=0))
    bound = (PROMPT, Sampling(max_tokens=12, temperature=0, grammar=Grammar(kind="regex", definition="[xyz]{4}")))
    answers = together(engine, free, bound, free, bound)
    assert answers[0].tokens == answers[2].tokens == complete(engine).tokens
    assert re.fullmatch("[xyz]{4}", answers[1].text)
    assert answers[1].text == answers[3].text


@pytest.mark.parametrize(
    ("kind", "definition", "message"),
    [
        ("regex", "((", "regex parse error"),
        ("json_schema", "{", "not JSON"),
        ("json_schema", "[]", "a JSON schema is an object"),
        ("json_schema", '{"type": "strange"}', "strange"),
        ("choice", "[]", "at least one text"),
        ("choice", "[1]", "at least one text"),
    ],
)
def test_grammar_that_is_none_is_refused(engine: Engine, kind: Any, definition: str, message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        complete(engine, grammar=Grammar(kind=kind, definition=definition))


def test_what_cannot_be_enforced_is_left_out_where_it_may_be(engine: Engine) -> None:
    schema = json.dumps({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "maxItems": 3})
    with pytest.raises(GrammarError, match="uniqueItems"):
        complete(engine, grammar=Grammar(kind="json_schema", definition=schema))
    answer = complete(engine, grammar=Grammar(kind="json_schema", definition=schema, lenient=True), max_tokens=200)
    assert set(json.loads(answer.text)) <= {1, 2}


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_formats_that_are_known_are_enforced(engine: Engine, form: str) -> None:
    complete(engine, grammar=Grammar(kind="json_schema", definition=json.dumps({"format": form})), max_tokens=1)


def test_other_formats_change_nothing(engine: Engine) -> None:
    schema = {
        **SCHEMA,
        "properties": {"format": {"enum": ["a"], "format": "path"}},
        "required": ["format"],
        "format": "odd",
    }
    grammar = Grammar(kind="json_schema", definition=json.dumps(schema))
    assert json.loads(complete(engine, grammar=grammar, max_tokens=400).text)["format"] == "a"


def test_refusals(engine: Engine) -> None:
    with pytest.raises(ContextLengthError) as refused:
        complete(engine, [5] * 400, max_tokens=CONTEXT - 399)
    assert (refused.value.prompt_tokens, refused.value.max_tokens, refused.value.context_tokens) == (400, 113, CONTEXT)

    async def crowd() -> None:
        generations = [engine.submit(PROMPT, Sampling(max_tokens=400, ignore_eos=True)) for _ in range(10)]
        with pytest.raises(QueueFullError):
            engine.submit(PROMPT, Sampling(max_tokens=1))
        for generation in generations:
            generation.cancel()
        assert {(await whole(generation)).finish_reason for generation in generations} == {"abort"}

    run(crowd)
    assert complete(engine, [5] * 400, max_tokens=CONTEXT - 400, ignore_eos=True).finish_reason == "length"


def test_cancel_ends_within_a_step_and_may_come_twice_and_late(engine: Engine, metrics: Metrics) -> None:
    def generated() -> float:
        return gauge(metrics, "generation_tokens_total")

    async def leave() -> tuple[Piece, float]:
        generation = engine.submit(PROMPT, Sampling(max_tokens=500, temperature=0, ignore_eos=True))
        pieces = aiter(generation)
        await anext(pieces)
        generation.cancel()
        generation.cancel()
        before = generated()
        last = [piece async for piece in pieces][-1]
        generation.cancel()
        return last, generated() - before

    aborted = gauge(metrics, "request_success_total", finished_reason="abort")
    last, more = run(leave)
    assert last.finish_reason == "abort"
    assert more <= 1  # of the step that was under way
    assert gauge(metrics, "request_success_total", finished_reason="abort") == aborted + 1


def test_shared_beginning_is_computed_once(engine: Engine, metrics: Metrics) -> None:
    shared = list(range(3, 103))

    async def one(last: int) -> Generation:
        generation = engine.submit([*shared, last], Sampling(max_tokens=2))
        await whole(generation)
        return generation

    async def both() -> list[Generation]:
        return [await one(5), *await asyncio.gather(one(6), one(7))]

    names = ("prompt_tokens_total", "prefix_cache_hits_total", "prompt_tokens_cached_total")
    before = [gauge(metrics, name) for name in names]
    assert [generation.cached_tokens for generation in run(both)] == [0, 96, 96]
    after = [gauge(metrics, name) for name in names]
    assert [new - old for new, old in zip(after, before, strict=True)] == [303, 192, 192]


def failing(engine: Engine, request: tuple[list[int], Sampling], *, beside: int = 3) -> Piece:
    """What becomes of a request that fails, after a check that its neighbours do not notice."""
    good = (PROMPT, Sampling(max_tokens=30, temperature=0, ignore_eos=True))
    (expected,) = together(engine, good)
    answers = together(engine, *[good] * beside, request, good)
    failed = answers.pop(beside)
    assert {answer.tokens for answer in answers} == {expected.tokens}
    return failed


def test_failure_in_the_forward_pass_is_its_requests_own(engine: Engine) -> None:
    outside = engine.model.vocabulary + 7
    failed = failing(engine, ([5, outside, 6], Sampling(max_tokens=30)))
    assert failed.finish_reason == "error"
    assert "IndexError" in failed.error


def test_failure_in_the_sampler_is_its_requests_own(engine: Engine) -> None:
    failed = failing(engine, (PROMPT, Sampling(max_tokens=30, logit_bias={10**7: 1.0})))
    assert failed.finish_reason == "error"


def test_failure_in_the_text_is_its_requests_own(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Answer.add

    def add(self: Answer, choice: Any, *, complete: bool) -> Piece:
        if self._sampling.max_tokens == 29 and self.tokens == 3:
            raise UnicodeError("broken text")
        return real(self, choice, complete=complete)

    monkeypatch.setattr(Answer, "add", add)
    failed = failing(engine, (PROMPT, Sampling(max_tokens=29, temperature=0)))
    assert (len(failed.tokens), failed.finish_reason, failed.error) == (3, "error", "UnicodeError: broken text")


def test_scores_that_are_no_numbers_do_not_spread(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Runner.run
    poison = 77

    @torch.inference_mode()
    def poisoned(self: Runner, turns: list[Turn], drawn: Any) -> Result:
        result = real(self, turns, drawn)
        for index, turn in enumerate(result.drawing):
            if turn.sequence.tokens[0] == poison:
                lease = turn.sequence.lease
                assert lease is not None
                for layer in self._layers:
                    for part in layer:
                        part[lease.start : lease.start + 2] = float("nan")
                result.scores[index] = float("nan")
        return result

    monkeypatch.setattr(Runner, "run", poisoned)
    for _ in range(2):
        assert failing(engine, ([poison] * 20, Sampling(max_tokens=5))).finish_reason == "error"
    monkeypatch.undo()
    assert complete(engine, [poison] * 20).finish_reason != "error"  # nor is it found in the prefix cache


@pytest.mark.parametrize("end", ["fails", "ends", "leaves"])
def test_nothing_of_a_request_is_left_for_those_who_take_its_place(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """A place beyond a sequence's last one is read where a neighbour is longer; numbers that are none spoil even so."""
    real = Runner.run
    poison = 77

    @torch.inference_mode()
    def poisoned(self: Runner, turns: list[Turn], drawn: Any) -> Result:
        result = real(self, turns, drawn)
        for turn in turns:
            if turn.sequence.tokens[0] == poison:
                lease = turn.sequence.lease
                assert lease is not None
                for layer in self._layers:
                    for part in layer:
                        part[lease.start + turn.start + turn.count - 1] = float("nan")
        return result

    short, long = ([5, 6], Sampling(max_tokens=20, temperature=0)), ([9] * 150, Sampling(max_tokens=9, temperature=0))
    expected = together(engine, short, long)

    async def poisoning() -> None:
        generation = engine.submit([poison] * 100, Sampling(max_tokens=1 if end == "ends" else 50, ignore_eos=True))
        pieces = aiter(generation)
        last = await anext(pieces)
        if end == "leaves":
            generation.cancel()
        async for piece in pieces:
            last = piece
        assert last.finish_reason in {"fails": ["error"], "ends": ["length"], "leaves": ["abort", "error"]}[end]

    monkeypatch.setattr(Runner, "run", poisoned)
    for _ in range(3):
        run(poisoning)
        assert together(engine, short, long) == expected


def test_slow_reader_gets_everything_in_fewer_pieces(engine: Engine) -> None:
    async def late() -> list[Piece]:
        generation = engine.submit(PROMPT, Sampling(max_tokens=20, temperature=0, ignore_eos=True))
        pieces = aiter(generation)
        first = await anext(pieces)
        while generation.completion_tokens < 20:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return [first, *[piece async for piece in pieces]]

    told = run(late)
    assert len(told) <= 2
    assert sum((piece.tokens for piece in told), ()) == complete(engine, max_tokens=20, ignore_eos=True).tokens


def test_event_loop_computes_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads with pools of their own slow each other down many times over."""
    computing = {"engine"}
    real = torch.nn.functional.linear

    def noted(*arguments: Any, **options: Any) -> Any:
        computing.add(threading.current_thread().name)
        return real(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "linear", noted)
    complete(engine, top_logprobs=1)
    assert computing == {"engine"}


def test_preempted_requests_still_get_their_answers(model: Path) -> None:
    metrics = Metrics("tiny")
    # The tiny model keeps 1 KiB per token: two layers, two heads of 32 numbers of 4 bytes, keys and values.
    small = started(model, metrics, kv_cache_mib=2, max_model_len=1024)
    requests = [([60 + index] * 250, Sampling(max_tokens=300, temperature=0, ignore_eos=True)) for index in range(4)]
    answers = together(small, *requests)
    assert [answer.finish_reason for answer in answers] == ["length"] * 4
    assert gauge(metrics, "num_preemptions_total") > 0
    for request, answer in zip(requests, answers, strict=True):
        assert together(small, request)[0].tokens == answer.tokens
    small.stop("over")


def test_whoever_comes_and_goes_the_answers_stay_the_same(model: Path) -> None:
    """Prompts with beginnings in common, every way of drawing, little room, and clients that leave at any time."""
    chance = random.Random(1)
    shared = [chance.randrange(10, 250) for _ in range(220)]
    options: list[dict[str, Any]] = [
        {"temperature": 0, "prompt_logprobs": 1, "top_logprobs": 2, "ignore_eos": True},
        {"seed": 1, "ignore_eos": True},
        {"seed": 2, "top_p": 0.8, "stop": ("ab", "e")},
        {"seed": 3, "top_k": 7, "frequency_penalty": 0.5, "repetition_penalty": 1.1},
        {"seed": 4, "grammar": Grammar(kind="regex", definition="[ab ]{3,30}")},
    ]
    requests = [
        (
            shared[: chance.choice((0, 60, 220))] + [chance.randrange(10, 250) for _ in range(chance.randrange(1, 60))],
            Sampling(max_tokens=chance.choice((1, 320)), **option),
        )
        for option in options * 2
    ]
    metrics = Metrics("tiny")
    crowded = started(model, metrics, max_model_len=1024, kv_cache_mib=2, max_waiting_requests=100)
    alone = [together(crowded, request)[0] for request in requests]

    async def visit(index: int) -> None:
        await asyncio.sleep(chance.random())
        generation = crowded.submit(*requests[index])
        if chance.random() < 0.3:
            asyncio.get_running_loop().call_later(chance.random() / 2, generation.cancel)
        piece = await whole(generation)
        if piece.finish_reason != "abort":
            assert (piece.text, piece.tokens, piece.finish_reason) == (
                alone[index].text,
                alone[index].tokens,
                alone[index].finish_reason,
            )

    async def all_of_them() -> None:
        await asyncio.gather(*(visit(chance.randrange(len(requests))) for _ in range(30)))

    run(all_of_them)
    assert gauge(metrics, "num_preemptions_total") > 0
    assert gauge(metrics, "request_success_total", finished_reason="abort") > 0
    crowded.stop("the test is over")


def test_stop_ends_every_request_with_the_reason_and_refuses_new_ones(model: Path) -> None:
    metrics = Metrics("tiny")
    other = started(model, metrics)

    async def cut() -> Piece:
        generation = other.submit(PROMPT, Sampling(max_tokens=500, ignore_eos=True))
        await anext(aiter(generation))
        other.stop("the server is shutting down")
        return await whole(generation)

    last = run(cut)
    assert (last.finish_reason, last.error) == ("abort", "the server is shutting down")
    with pytest.raises(EngineClosedError, match="the server is shutting down"):
        complete(other)
    assert gauge(metrics, "num_requests_running") == 0


def test_engine_without_a_model_says_what_it_does() -> None:
    engine = Engine(Settings(model="nowhere"), Metrics("none"))
    with pytest.raises(EngineClosedError, match="not loaded: starting"):
        _ = engine.model
