"""The wire format, as the official client sees it."""

import math
import tomllib
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from service import __version__, metric_names
from tests.service.server import ServerProcess

# A chunk carries all the tokens that have come while its reader was slow, so many in no case.
MANY = 400
RESPONSE_FORMAT = (
    '"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"minimum": NUMBER}}}'
)
PARAMETERS = '"tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": [NUMBER]}}}]'
HELLO: list[dict[str, str]] = [{"role": "user", "content": "Say hello"}]


def chat(client: openai.OpenAI, **options: Any) -> openai.types.chat.ChatCompletion:
    """Noise ends at any time: it does not here, unless a test wants it to."""
    extra = {"ignore_eos": True} | options.pop("extra_body", {})
    return client.chat.completions.create(  # type: ignore[no-any-return]
        **{"model": "tiny", "messages": HELLO, "max_tokens": 12, **options}, extra_body=extra
    )


def streamed(client: openai.OpenAI, **options: object) -> list[openai.types.chat.ChatCompletionChunk]:
    return list(chat(client, stream=True, **options))  # type: ignore[arg-type]


def complete(client: openai.OpenAI, **options: Any) -> Any:
    """A completion, or the stream of its chunks."""
    given = {"model": "tiny", "prompt": "Once upon a time", "max_tokens": 4, **options}
    return client.completions.create(**given, extra_body={"ignore_eos": True})


def post(server: ServerProcess, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, timeout=60)


def test_models_are_listed_and_found_by_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "llm-stack"
    assert client.get("/models/", cast_to=httpx.Response).json()["data"][0]["id"] == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_version_is_the_projects(server: ServerProcess) -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert server.get("/version").json() == {"version": project["version"]} == {"version": __version__}


class TestChat:
    def test_completion_has_text_reason_and_usage(self, client: openai.OpenAI) -> None:
        answer = chat(client, temperature=0)
        assert answer.object == "chat.completion"
        assert answer.choices[0].message.role == "assistant"
        assert answer.choices[0].message.content
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 12
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
        assert answer.usage.prompt_tokens_details is not None
        assert answer.usage.prompt_tokens_details.cached_tokens is not None

    def test_stream_says_the_same_as_the_whole_answer(self, client: openai.OpenAI) -> None:
        whole = chat(client, temperature=0, logprobs=True).choices[0]
        chunks = streamed(client, temperature=0, logprobs=True, stream_options={"include_usage": True})
        first, *middle, last, total = chunks
        assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
        assert "".join(chunk.choices[0].delta.content or "" for chunk in middle) == whole.message.content
        assert all(chunk.choices[0].finish_reason is None and chunk.usage is None for chunk in middle)
        assert (last.choices[0].finish_reason, last.choices[0].delta.content) == ("length", None)
        assert (total.choices, total.usage and total.usage.completion_tokens) == ([], 12)
        assert len({(chunk.id, chunk.created, chunk.object) for chunk in chunks}) == 1
        told = [one for c in (*middle, last) if c.choices[0].logprobs for one in c.choices[0].logprobs.content or ()]
        assert whole.logprobs is not None
        assert [one.token for one in told] == [one.token for one in whole.logprobs.content or ()]

    def test_stream_ends_with_done_and_has_no_usage_unasked(self, server: ServerProcess) -> None:
        answer = post(server, "/v1/chat/completions", {"messages": HELLO, "max_tokens": 2, "stream": True})
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.endswith("data: [DONE]\n\n")
        assert "usage" not in answer.text

    def test_usage_in_every_chunk_if_asked_for(self, client: openai.OpenAI) -> None:
        wanted = {"include_usage": True, "continuous_usage_stats": True}
        used = [chunk.usage for chunk in streamed(client, stream_options=wanted, max_tokens=MANY)]
        told = [one.completion_tokens for one in used if one]
        assert len(told) == len(used)
        assert told == sorted(told)
        assert 1 <= told[0] < told[-1] == MANY  # a chunk carries every token that came since the last one

    def test_prompt_that_was_there_before_comes_from_the_cache(self, client: openai.OpenAI) -> None:
        long = [{"role": "user", "content": "A prompt of its own, that nobody has sent before. " * 10}]
        used = [chat(client, messages=long, max_tokens=1).usage for _ in range(2)]
        cached = [one.prompt_tokens_details.cached_tokens for one in used if one and one.prompt_tokens_details]
        assert cached[0] is not None
        assert cached[1] is not None
        assert cached[0] < cached[1]

    def test_several_answers_with_a_seed_differ_and_repeat(self, client: openai.OpenAI) -> None:
        first, again = ([c.message.content for c in chat(client, n=3, seed=5).choices] for _ in range(2))
        assert first == again
        assert len(set(first)) == 3
        assert chat(client, n=2, seed=6).choices[0].message.content == first[1]  # the next answer has the next seed

    def test_several_answers_stream_side_by_side(self, client: openai.OpenAI) -> None:
        chunks = streamed(client, n=3, seed=5, stream_options={"include_usage": True})
        texts = ["", "", ""]
        for choice in (chunk.choices[0] for chunk in chunks if chunk.choices):
            texts[choice.index] += choice.delta.content or ""
        assert texts == [choice.message.content for choice in chat(client, n=3, seed=5).choices]
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 36
        assert chunks[-1].usage.prompt_tokens < 36  # the prompt counts once

    def test_every_answer_has_begun_before_one_ends(self, client: openai.OpenAI) -> None:
        choices = [chunk.choices[0] for chunk in streamed(client, n=3, max_tokens=MANY)]
        begun = [place for place, choice in enumerate(choices) if choice.delta.role]
        ended = [place for place, choice in enumerate(choices) if choice.finish_reason]
        assert (len(begun), len(ended)) == (3, 3)
        assert max(begun) < min(ended)

    def test_logprobs_are_those_of_the_tokens(self, client: openai.OpenAI) -> None:
        choice = chat(client, temperature=0, logprobs=True, top_logprobs=3).choices[0]
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert len(choice.logprobs.content) == 12
        spelled = b""
        for one in choice.logprobs.content:
            assert one.token == one.top_logprobs[0].token
            assert one.logprob == pytest.approx(one.top_logprobs[0].logprob, abs=1e-5)
            assert 0 < sum(math.exp(other.logprob) for other in one.top_logprobs) <= 1
            assert len(one.top_logprobs) == 3
            spelled += bytes(one.bytes or ())
        assert spelled.decode(errors="replace") == choice.message.content

    def test_stop_string_ends_the_text_before_it(self, client: openai.OpenAI) -> None:
        text = chat(client, temperature=0).choices[0].message.content
        assert text is not None
        stop = text[3:6]
        stopped = chat(client, temperature=0, stop=[stop]).choices[0]
        assert (stopped.finish_reason, stopped.message.content) == ("stop", text[: text.find(stop)])
        assert stopped.model_extra == {"stop_reason": stop}
        chunks = streamed(client, temperature=0, stop=[stop])
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text[: text.find(stop)]

    def test_messages_may_be_parts_and_carry_calls(self, client: openai.OpenAI) -> None:
        parts = [{"role": "user", "content": [{"type": "text", "text": "Say"}, {"type": "text", "text": "hello"}]}]
        whole = [{"role": "user", "content": "Say\nhello"}]
        same = [chat(client, messages=messages, temperature=0).choices[0].message for messages in (parts, whole)]
        assert same[0].content == same[1].content
        call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": '{"zone": "UTC"}'}}
        history = [
            *HELLO,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}], "reasoning": "Hm."},
            {"role": "user", "content": "Why?"},
        ]
        assert chat(client, messages=history).choices[0].finish_reason == "length"

    def test_each_request_is_sampled_as_it_asks(self, client: openai.OpenAI) -> None:
        def text(**options: object) -> str | None:
            return chat(client, max_tokens=20, **options).choices[0].message.content

        greedy = text(temperature=0)
        assert text(temperature=1.5, seed=1) != greedy
        assert text(temperature=0, extra_body={"top_k": 10**9}) == greedy  # more than there are tokens
        assert text(temperature=1, seed=1, extra_body={"top_k": 1}) == greedy
        assert text(temperature=1, seed=1, top_p=1e-9) == greedy
        assert text(temperature=1, seed=1, extra_body={"min_p": 1.0}) == greedy
        assert text(temperature=0, extra_body={"repetition_penalty": 9.5}) != greedy

    def test_end_tokens_are_ignored_as_asked(self, client: openai.OpenAI, server: ServerProcess) -> None:
        [end] = post(server, "/tokenize", {"prompt": "<|im_end|>"}).json()["tokens"]
        options: dict[str, Any] = {"logit_bias": {str(end): 100}, "temperature": 0, "max_tokens": 6}
        bodies: dict[str, dict[str, Any]] = {
            "plain": {"ignore_eos": False},
            "ignored": {"ignore_eos": True},
            "late": {"ignore_eos": False, "min_tokens": 3},
        }
        reasons = {
            name: (choice.finish_reason, answer.usage and answer.usage.completion_tokens)
            for name, body in bodies.items()
            for answer in [chat(client, **options, extra_body=body)]
            for choice in answer.choices
        }
        assert reasons["plain"] == ("stop", 1)
        assert reasons["ignored"] == ("length", 6)
        assert reasons["late"] == ("stop", 4)

    def test_bias_and_stop_token_take_effect(self, client: openai.OpenAI) -> None:
        choice = chat(client, logit_bias={"65": 100}, max_tokens=3, temperature=0).choices[0]
        assert choice.message.content is not None
        assert len(set(choice.message.content)) == 1
        body = {"stop_token_ids": [65]}
        assert chat(client, logit_bias={"65": 100}, temperature=0, extra_body=body).choices[0].finish_reason == "stop"


class TestCompletions:
    def test_text_tokens_and_several_prompts(self, client: openai.OpenAI, server: ServerProcess) -> None:
        one = complete(client, temperature=0)
        assert (one.object, one.choices[0].finish_reason) == ("text_completion", "length")
        several = complete(client, prompt=["Once upon a time", "A"], temperature=0, n=2)
        assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
        assert [choice.text for choice in several.choices[:2]] == [one.choices[0].text] * 2
        tokens = post(server, "/tokenize", {"prompt": "Once upon a time"}).json()["tokens"]
        by_tokens = complete(client, prompt=tokens, temperature=0)
        assert by_tokens.choices[0].text == one.choices[0].text
        assert by_tokens.usage is not None
        assert by_tokens.usage.prompt_tokens == len(tokens)
        lists = complete(client, prompt=[tokens, tokens], temperature=0)
        assert [choice.text for choice in lists.choices] == [one.choices[0].text] * 2

    def test_echo_comes_first(self, client: openai.OpenAI) -> None:
        text = complete(client, temperature=0).choices[0].text
        assert complete(client, temperature=0, echo=True).choices[0].text == f"Once upon a time{text}"
        chunks = list(complete(client, temperature=0, echo=True, stream=True))
        assert "".join(chunk.choices[0].text for chunk in chunks) == f"Once upon a time{text}"

    def test_stream_of_several_prompts_says_the_same(self, client: openai.OpenAI) -> None:
        options: dict[str, Any] = {"prompt": ["Once", "A story"], "seed": 3, "logprobs": 1}
        whole = complete(client, **options)
        texts, tokens, reasons = ["", ""], [[], []], {}  # type: ignore[var-annotated]
        for chunk in complete(client, **options, stream=True):
            choice = chunk.choices[0]
            texts[choice.index] += choice.text
            tokens[choice.index] += choice.logprobs.tokens if choice.logprobs else []
            reasons[choice.index] = choice.finish_reason
        assert texts == [choice.text for choice in whole.choices]
        assert tokens == [choice.logprobs and choice.logprobs.tokens for choice in whole.choices]
        assert reasons == {0: "length", 1: "length"}

    def test_logprobs_in_the_older_shape(self, client: openai.OpenAI) -> None:
        found = complete(client, temperature=0, logprobs=2).choices[0].logprobs
        assert found is not None
        assert found.tokens is not None
        assert found.top_logprobs is not None
        assert found.token_logprobs is not None
        for token, logprob, top in zip(found.tokens, found.token_logprobs, found.top_logprobs, strict=True):
            assert top[token] == pytest.approx(max(top.values()), abs=1e-5)
            assert top[token] == pytest.approx(logprob)
        assert found.text_offset == [sum(map(len, found.tokens[:place])) for place in range(len(found.tokens))]


def test_tokenize_and_detokenize_are_each_others_reverse(server: ServerProcess) -> None:
    answer = post(server, "/tokenize", {"model": "tiny", "prompt": "Say hello", "return_token_strs": True}).json()
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert answer["max_model_len"] == 2048
    assert post(server, "/detokenize", {"tokens": answer["tokens"]}).json() == {"prompt": "Say hello"}
    conversation = post(server, "/tokenize", {"messages": HELLO}).json()["tokens"]
    text = "<|im_start|>user\nSay hello<|im_end|>\n<|im_start|>assistant\n"
    assert post(server, "/detokenize", {"tokens": conversation}).json() == {"prompt": text}


class TestErrors:
    def test_each_is_a_class_of_the_official_client(self, client: openai.OpenAI) -> None:
        """Those of keys, of a full queue and of time are raised where these are tested."""
        raised: list[tuple[type[openai.APIStatusError], int, dict[str, Any]]] = [
            (openai.BadRequestError, 400, {"temperature": 3}),
            (openai.NotFoundError, 404, {"model": "other"}),
            (openai.APIStatusError, 413, {"messages": [{"role": "user", "content": "x" * 200_000}]}),
            (openai.APIStatusError, 415, {"extra_headers": {"content-type": "text/plain"}}),
        ]
        for kind, status, options in raised:
            with pytest.raises(kind) as refused:
                chat(client, **options)
            assert refused.value.status_code == status
            assert refused.value.type
            assert refused.value.request_id

    @pytest.mark.parametrize(
        ("options", "param"),
        [
            ({"temperature": 3}, "temperature"),
            ({"temperature": -1}, "temperature"),
            ({"temperature": "0.5"}, "temperature"),
            ({"top_p": 0}, "top_p"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"max_tokens": -1}, "max_tokens"),
            ({"max_tokens": 5.5}, "max_tokens"),
            ({"n": 0}, "n"),
            ({"n": 5}, "n"),
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "user"}]}, "messages.0"),
            ({"messages": [{"role": "nobody", "content": "x"}]}, "messages.0.role"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
            ({"top_logprobs": 2}, "top_logprobs"),
            ({"logprobs": True, "top_logprobs": 6}, "top_logprobs"),
            ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
            ({"stop": [""]}, "stop.0"),
            ({"presence_penalty": 2.1}, "presence_penalty"),
            ({"logit_bias": {"5": 101}}, "logit_bias.5"),
            ({"logit_bias": {"99999": 1}}, "logit_bias"),
            ({"stream": False, "stream_options": {"include_usage": True}}, "stream_options"),
            ({"tool_choice": "required"}, "tool_choice"),
            ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
            ({"extra_body": {"min_tokens": 13}}, "min_tokens"),
            ({"extra_body": {"min_p": 1.5}}, "min_p"),
            ({"extra_body": {"repetition_penalty": 1e-300}}, "repetition_penalty"),
            ({"extra_body": {"structured_outputs": {"grammar": "x"}}}, "structured_outputs.grammar"),
            ({"extra_body": {"stop_token_ids": [99999]}}, "stop_token_ids"),
            ({"extra_body": {"suffix": "x"}}, "suffix"),
            ({"extra_body": {"guided_regex": "a", "guided_json": {}}}, "guided_regex"),
            ({"extra_body": {"chat_template_kwargs": {"tokenize": True}}}, "chat_template_kwargs"),
        ],
    )
    def test_invalid_value_is_refused_by_name(
        self, client: openai.OpenAI, options: dict[str, object], param: str
    ) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            chat(client, **options)
        assert (refused.value.param, refused.value.type) == (param, "invalid_request_error")
        assert str(refused.value.body["message"]).startswith(f"{param}: ")  # type: ignore[index]

    @pytest.mark.parametrize(
        ("prompt", "param"),
        [
            ("", "prompt"),
            ([], "prompt"),
            ([[]], "prompt"),
            ([1, -1], "prompt.1"),
            ([1, "a"], "prompt.1"),
            ([99999], "prompt"),
            (["A"] * 9, "prompt"),  # MAX_PROMPTS
            (["A"] * 7, "prompt"),  # what runs and waits at most
        ],
    )
    def test_prompt_that_is_none_is_refused(self, client: openai.OpenAI, prompt: object, param: str) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            complete(client, prompt=prompt)
        assert refused.value.param == param

    def test_unknown_fields_are_accepted_and_null_means_not_set(self, client: openai.OpenAI) -> None:
        unset = {"temperature": None, "stop": None, "n": None, "response_format": None, "suffix": None}
        body = {"user": "me", "a_field_of_tomorrow": {"x": [1]}, "top_k": -1, **unset}
        assert chat(client, extra_body=body).choices[0].finish_reason == "length"

    @pytest.mark.parametrize(
        "options",
        [
            {"logprobs": False, "top_logprobs": 0},
            {"max_tokens": 12.0, "seed": 42.0, "n": 1.0},
            {"stream_options": {}},
            {"top_k": 2**63},
            {"top_k": 10**30},
            {"top_p": 1e-300},
            {"repetition_penalty": 0.01},
            {"structured_outputs": {"grammar": None, "disable_any_whitespace": False}},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
        ],
        ids=str,
    )
    def test_what_clients_send_is_taken(self, server: ServerProcess, options: dict[str, object]) -> None:
        body = {"model": "tiny", "messages": HELLO, "max_tokens": 12, "ignore_eos": True, **options}
        answer = post(server, "/v1/chat/completions", body)
        assert answer.status_code == 200, answer.text

    @pytest.mark.parametrize("number", ["NaN", "1e400"])
    @pytest.mark.parametrize(
        ("param", "body"),
        [
            ("guided_json", '"guided_json": {"minimum": NUMBER}'),
            ("response_format.json_schema.schema", RESPONSE_FORMAT),
            ("tools.0.function.parameters", PARAMETERS),
        ],
    )
    def test_number_that_json_does_not_have_is_refused_by_name(
        self, server: ServerProcess, param: str, body: str, number: str
    ) -> None:
        content = f'{{"messages": [{{"role": "user", "content": "x"}}], {body.replace("NUMBER", number)}}}'
        answer = httpx.post(
            f"{server.url}/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)

    def test_unknown_model_is_404(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as refused:
            chat(client, model="other")
        assert refused.value.code == "model_not_found"

    @pytest.mark.parametrize("text", ["Say hello", "hello " * 20_000])
    def test_too_long_a_context_is_refused_and_the_server_lives_on(
        self, client: openai.OpenAI, server: ServerProcess, text: str
    ) -> None:
        before = server.refused(metric_names.REFUSED_CONTEXT_LENGTH)
        with pytest.raises(openai.BadRequestError) as refused:
            chat(client, max_tokens=100_000 if len(text) < 100 else None, messages=[{"role": "user", "content": text}])
        assert refused.value.code == "context_length_exceeded"
        assert server.refused(metric_names.REFUSED_CONTEXT_LENGTH) == before + 1
        assert chat(client).choices[0].finish_reason == "length"

    def test_too_long_a_body_is_413_with_and_without_its_length(self, server: ServerProcess) -> None:
        body = b'{"messages": "' + b"x" * 200_000 + b'"}'
        headers = {"content-type": "application/json"}
        for content in (body, iter([body[:50], body[50:]])):
            answer = httpx.post(f"{server.url}/v1/chat/completions", content=content, headers=headers)
            assert (answer.status_code, answer.json()["error"]["type"]) == (413, "invalid_request_error")

    def test_what_is_no_request_is_answered_in_the_error_shape(self, server: ServerProcess) -> None:
        url, json_type = f"{server.url}/v1/chat/completions", {"content-type": "application/json"}
        answers = [
            httpx.get(f"{server.url}/v1/nothing"),
            httpx.get(url),
            httpx.post(url, content=b"{", headers=json_type),
            httpx.post(url, content=b"[" * 100_000, headers=json_type),
            httpx.post(url, content=b'{"messages": "\xff"}', headers=json_type),
            httpx.post(url, content=b"[]", headers=json_type),
            httpx.post(url, content=b"{}", headers=json_type),
            httpx.post(url, data={"a": "b"}),
            httpx.get(url, headers={b"x-request-id": b"\x7f"}),
        ]
        assert [answer.status_code for answer in answers] == [404, 405, 400, 400, 400, 400, 400, 415, 400]
        for answer in answers:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    def test_template_that_refuses_is_the_clients_error(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="template"):
            chat(client, extra_body={"chat_template_kwargs": {"messages": []}})


def test_request_id_is_the_clients_and_only_a_label(client: openai.OpenAI, server: ServerProcess) -> None:
    named = {"X-Request-ID": "mine-1"}
    answers = [chat(client, extra_headers=named) for _ in range(2)]
    assert [answer._request_id for answer in answers] == ["mine-1", "mine-1"]
    assert answers[0].id != answers[1].id
    assert chat(client)._request_id != chat(client)._request_id
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, n=0, extra_headers=named)
    assert refused.value.request_id == "mine-1"
    for bad in ("x" * 129, "a b", "\xff"):
        answer = httpx.get(f"{server.url}/v1/models", headers={b"x-request-id": bad.encode("latin-1")})
        assert answer.headers["x-request-id"] not in ("", bad)
