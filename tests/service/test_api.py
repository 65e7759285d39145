"""The wire format, as the official client sees it."""

import httpx
import openai
import pytest

from tests.service.server import ServerProcess

HELLO: list[dict[str, str]] = [{"role": "user", "content": "Say hello"}]


def chat(client: openai.OpenAI, **options: object) -> openai.types.chat.ChatCompletion:
    return client.chat.completions.create(**{"model": "tiny", "messages": HELLO, "max_tokens": 12, **options})  # type: ignore[call-overload, no-any-return]


def test_models_are_listed_and_found_by_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "llm-stack"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_chat_completion_has_text_reason_and_usage(client: openai.OpenAI) -> None:
    answer = chat(client, temperature=0)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12


def test_stream_says_the_same_as_the_whole_answer(client: openai.OpenAI) -> None:
    whole = chat(client, temperature=0).choices[0].message.content
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "Say hello"}],
            max_tokens=12,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12
    assert len({chunk.id for chunk in chunks}) == 1


def test_stream_ends_with_done(server: ServerProcess) -> None:
    body = {"messages": HELLO, "max_tokens": 2, "stream": True}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")


def test_seed_repeats_an_answer_and_another_seed_does_not(client: openai.OpenAI) -> None:
    first, again, other = (chat(client, seed=seed).choices[0].message.content for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_stop_string_ends_the_text_before_it(client: openai.OpenAI) -> None:
    text = chat(client, temperature=0).choices[0].message.content
    assert text is not None
    stop = text[3:6]
    stopped = chat(client, temperature=0, stop=[stop]).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.message.content == text[: text.find(stop)]


def test_completions_take_text_tokens_and_several_prompts(client: openai.OpenAI) -> None:
    one = client.completions.create(model="tiny", prompt="Once upon a time", max_tokens=4, temperature=0)
    assert one.choices[0].finish_reason == "length"
    assert one.usage is not None
    assert one.usage.completion_tokens == 4
    several = client.completions.create(model="tiny", prompt=["Once upon a time", "A"], max_tokens=4, temperature=0)
    assert [choice.index for choice in several.choices] == [0, 1]
    assert several.choices[0].text == one.choices[0].text
    tokens = client.completions.create(model="tiny", prompt=[5, 6, 7], max_tokens=4)
    assert tokens.usage is not None
    assert tokens.usage.prompt_tokens == 3


def test_messages_may_be_parts(client: openai.OpenAI) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "Say "}, {"type": "text", "text": "hello"}]}]
    assert chat(client, messages=parts, temperature=0).choices[0].message.content == (
        chat(client, temperature=0).choices[0].message.content
    )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 2}, "n=2"),
        ({"messages": []}, "messages"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_invalid_value_is_refused_by_name(client: openai.OpenAI, options: dict[str, object], named: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, **options)
    assert named in str(refused.value)
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["type"] == "invalid_request_error"


def test_more_prompts_than_the_server_ever_takes_are_refused_for_good(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="7 prompts are more than this server takes at once, 6"):
        client.completions.create(model="tiny", prompt=["A"] * 7, max_tokens=1)


def test_unknown_model_is_404(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        chat(client, model="other")
    assert refused.value.code == "model_not_found"


def test_too_long_a_context_is_refused_and_the_server_lives_on(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, max_tokens=100_000)
    assert refused.value.code == "context_length_exceeded"
    assert chat(client).choices[0].finish_reason == "length"


def test_unknown_path_and_broken_body_answer_in_the_error_shape(server: ServerProcess) -> None:
    missing = httpx.get(f"{server.url}/v1/nothing")
    broken = httpx.post(f"{server.url}/v1/chat/completions", content=b"{", headers={"content-type": "application/json"})
    assert (missing.status_code, broken.status_code) == (404, 400)
    for answer in (missing, broken):
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
