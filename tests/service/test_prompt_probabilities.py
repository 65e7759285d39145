"""Probabilities of a prompt's tokens, as evaluation harnesses ask for them."""

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.service.server import ServerProcess
from tests.service.test_api import HELLO, chat, post

# A prompt of several steps, with a character that is two tokens.
TEXT = "Once upon a time there was a ïne story. " * 30
ROUNDING = 1e-3


@pytest.fixture(scope="module")
def plain(model: Path) -> tuple[Any, Any]:
    """The served model and its tokenizer, by transformers alone."""
    network: Any = AutoModelForCausalLM.from_pretrained(model)
    return network.eval(), AutoTokenizer.from_pretrained(model)


def by_transformers(plain: tuple[Any, Any], tokens: list[int]) -> torch.Tensor:
    """(tokens - 1, vocabulary)"""
    with torch.inference_mode():
        return torch.log_softmax(plain[0](torch.tensor([tokens])).logits[0, :-1].float(), -1)


def echoed(client: openai.OpenAI, **options: Any) -> Any:
    return client.completions.create(
        **{"model": "tiny", "prompt": TEXT, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0, **options}
    )


@pytest.mark.parametrize("max_tokens", [0, 1, 5])
def test_echo_with_logprobs_tells_those_of_the_prompt(
    client: openai.OpenAI, plain: tuple[Any, Any], max_tokens: int
) -> None:
    tokens = plain[1](TEXT)["input_ids"]
    logs = by_transformers(plain, tokens)
    for _ in range(2):  # the second time the cache knows the prompt
        answer = echoed(client, max_tokens=max_tokens)
        choice = answer.choices[0]
        found = choice.logprobs
        assert found is not None
        assert len(found.tokens) == len(found.text_offset) == len(tokens) + max_tokens
        assert (found.token_logprobs[0], found.top_logprobs[0]) == (None, None)
        told = found.token_logprobs[1 : len(tokens)]
        wanted = logs.gather(1, torch.tensor(tokens[1:]).unsqueeze(1)).squeeze(1).tolist()
        assert told == pytest.approx(wanted, abs=ROUNDING)
        # What a harness takes for "this is the likeliest token" is that the two numbers are the same.
        greedy = [own == max(top.values()) for own, top in zip(told, found.top_logprobs[1 : len(tokens)], strict=True)]
        assert greedy == (logs.argmax(-1) == torch.tensor(tokens[1:])).tolist()
        assert choice.text.startswith(TEXT)
        assert (choice.text == TEXT) == (max_tokens == 0)
        assert choice.finish_reason == "length"
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(tokens), max_tokens)
        assert answer.usage.prompt_tokens_details.cached_tokens == 0


def test_stream_tells_the_same(client: openai.OpenAI) -> None:
    for options in ({"max_tokens": 4}, {"max_tokens": 0}, {"prompt": [[40, 41, 42], [43]], "max_tokens": 2}):
        whole = echoed(client, **options, extra_body={"ignore_eos": True})
        texts = [""] * len(whole.choices)
        logprobs: list[dict[str, list[Any]]] = [{} for _ in whole.choices]
        for chunk in echoed(client, **options, stream=True, extra_body={"ignore_eos": True}):
            choice = chunk.choices[0]
            texts[choice.index] += choice.text
            for name, values in (choice.logprobs.model_dump() if choice.logprobs else {}).items():
                logprobs[choice.index].setdefault(name, []).extend(values)
        assert texts == [choice.text for choice in whole.choices]
        for streamed, choice in zip(logprobs, whole.choices, strict=True):
            told = choice.logprobs
            assert (streamed["tokens"], streamed["text_offset"]) == (told.tokens, told.text_offset)
            assert streamed["token_logprobs"][1:] == pytest.approx(told.token_logprobs[1:], abs=ROUNDING)
            assert list(map(bool, streamed["top_logprobs"])) == list(map(bool, told.top_logprobs))


def test_many_prompts_as_a_harness_sends_them(client: openai.OpenAI, plain: tuple[Any, Any]) -> None:
    prompts = [[40 + index, *range(50, 60 + 20 * index), 7] for index in range(5)]
    answer = echoed(client, prompt=prompts, max_tokens=1, seed=1234)
    for prompt, choice in zip(prompts, answer.choices, strict=True):
        logs = by_transformers(plain, prompt)
        wanted = logs.gather(1, torch.tensor(prompt[1:]).unsqueeze(1)).sum().item()
        assert sum(choice.logprobs.token_logprobs[1:-1]) == pytest.approx(wanted, abs=ROUNDING)


def test_context_may_be_full_of_prompt(client: openai.OpenAI) -> None:
    full = [50 + place % 100 for place in range(2048)]
    assert len(echoed(client, prompt=full, max_tokens=0).choices[0].logprobs.tokens) == 2048
    with pytest.raises(openai.BadRequestError) as refused:
        echoed(client, prompt=full, max_tokens=1)
    assert refused.value.code == "context_length_exceeded"


def test_echo_without_logprobs_may_answer_nothing(client: openai.OpenAI) -> None:
    choice = echoed(client, prompt="Once", max_tokens=0, logprobs=None).choices[0]
    assert (choice.text, choice.finish_reason, choice.logprobs) == ("Once", "length", None)
    with pytest.raises(openai.BadRequestError) as refused:
        echoed(client, max_tokens=0, echo=False)
    assert refused.value.param == "max_tokens"


def check(found: list[dict[str, Any] | None], plain: tuple[Any, Any], tokens: list[int], most: int) -> None:
    logs = by_transformers(plain, tokens)
    assert found[0] is None
    assert len(found) == len(tokens)
    for token, row, entry in zip(tokens[1:], logs, found[1:], strict=True):
        assert entry is not None
        own = entry[str(token)]
        assert own["logprob"] == pytest.approx(row[token].item(), abs=ROUNDING)
        assert own["decoded_token"] == plain[1].decode([token])
        ranks = {one["rank"]: one["logprob"] for one in entry.values()}
        assert set(range(1, most + 1)) <= set(ranks) | {own["rank"]}
        assert [ranks[rank] for rank in sorted(ranks)] == sorted(ranks.values(), reverse=True)
        assert own["rank"] == pytest.approx((row > row[token]).sum().item() + 1, abs=1)


def test_prompt_logprobs_are_vllms(client: openai.OpenAI, server: ServerProcess, plain: tuple[Any, Any]) -> None:
    tokens = post(server, "/tokenize", {"messages": HELLO}).json()["tokens"]
    answer = chat(client, n=2, extra_body={"prompt_logprobs": 2})
    check(answer.model_extra["prompt_logprobs"], plain, tokens, 2)  # type: ignore[index]
    prompt = [40, 41, 42, 43]
    whole = echoed(client, prompt=prompt, logprobs=1, max_tokens=2, extra_body={"prompt_logprobs": 3}).choices[0]
    check(whole.model_extra["prompt_logprobs"], plain, prompt, 3)
    assert max(len(top) for top in whole.logprobs.top_logprobs if top) <= 2
    silent = echoed(client, prompt=prompt, logprobs=None, echo=False, extra_body={"prompt_logprobs": 0}).choices[0]
    check(silent.model_extra["prompt_logprobs"], plain, prompt, 0)
    assert silent.logprobs is None


@pytest.mark.parametrize(
    "options", [{"stream": True, "prompt_logprobs": 1}, {"prompt_logprobs": 6}, {"prompt_logprobs": -1}]
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_prompt_logprobs_that_are_not_served_are_refused(
    server: ServerProcess, path: str, options: dict[str, Any]
) -> None:
    body = {"messages": HELLO} if "chat" in path else {"prompt": "a"}
    answer: httpx.Response = post(server, path, {**body, **options, "max_tokens": 1})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt_logprobs")
