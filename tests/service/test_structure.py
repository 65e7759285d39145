"""Answers that must be something: JSON, a schema, a regular expression, a choice, a tool call."""

import json
import re
from typing import Any, Literal

import openai
import pydantic
import pytest

from tests.service.test_api import HELLO, chat, streamed

CITY = {"$ref": "#/$defs/City"}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": CITY, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": False,
            "$defs": {"City": {"enum": ["Paris", "Rome"]}},
        },
    },
}
NOW: dict[str, Any] = {"type": "function", "function": {"name": "now"}}
# Noise takes all the white space that JSON may have.
MANY = 800
# Calls as the model would write them by itself, if its weights were not random.
HERMES = (
    r"<think>\nLet me see\.\n</think>\n\nA moment\.\n"
    r'<tool_call>\n\{"name": "get_weather", "arguments": \{"city": "(Paris|Rome)", "days": [1-9]\}\}\n</tool_call>\n'
    r'<tool_call>\n\{"name": "now", "arguments": \{\}\}\n</tool_call>'
)


class Event(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    kind: Literal["fair", "concert"]
    guests: Literal[10, 20]
    open_air: bool


def test_parse_returns_the_model(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(
        model="tiny",
        messages=HELLO,  # type: ignore[arg-type]
        response_format=Event,
        max_tokens=MANY,
    )
    assert isinstance(parsed.choices[0].message.parsed, Event)
    assert parsed.choices[0].finish_reason == "stop"


def test_schema_holds_in_a_stream(client: openai.OpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "event", "schema": Event.model_json_schema()}}
    chunks = streamed(client, response_format=wanted, max_tokens=MANY)
    Event.model_validate_json("".join(chunk.choices[0].delta.content or "" for chunk in chunks))


def test_json_object_is_json(client: openai.OpenAI) -> None:
    choice = chat(client, response_format={"type": "json_object"}, max_tokens=MANY, seed=1).choices[0]
    if choice.finish_reason == "stop":  # noise may be long JSON
        assert isinstance(json.loads(choice.message.content or ""), dict)
    else:
        assert (choice.message.content or "").lstrip().startswith("{")


@pytest.mark.parametrize("vllm_now", [False, True])
def test_guided_answers(client: openai.OpenAI, vllm_now: bool) -> None:
    def guided(**wanted: object) -> str:
        body = {"structured_outputs": wanted} if vllm_now else {f"guided_{key}": one for key, one in wanted.items()}
        return chat(client, extra_body=body, max_tokens=MANY).choices[0].message.content or ""

    assert guided(choice=["yes", "no"]) in ("yes", "no")
    assert re.fullmatch(r"[a-c]{3}-\d\d", guided(regex=r"[a-c]{3}-[0-9]{2}"))
    Event.model_validate_json(guided(json=Event.model_json_schema()))


@pytest.mark.parametrize("body", [{"guided_regex": "("}, {"guided_json": {"type": "nothing"}}, {"guided_json": "{"}])
def test_structure_that_is_none_is_refused(client: openai.OpenAI, body: dict[str, object]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, extra_body=body)
    assert [refused.value.param] == list(body)
    assert chat(client).choices[0].finish_reason == "length"


def test_what_cannot_be_enforced_is_refused_where_that_is_wanted(client: openai.OpenAI) -> None:
    def wanted(strict: bool | None) -> dict[str, Any]:
        schema = {"type": "array", "items": {"enum": [1]}, "uniqueItems": True, "maxItems": 2}
        return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": strict}}

    for strict in (None, False):
        content = chat(client, response_format=wanted(strict), max_tokens=MANY).choices[0].message.content
        assert set(json.loads(content or "")) <= {1}
    with pytest.raises(openai.BadRequestError, match="uniqueItems"):
        chat(client, response_format=wanted(True))


def test_schema_that_nothing_satisfies_is_the_clients_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="has no answer"):
        chat(client, extra_body={"guided_json": {"$ref": "#"}})
    assert chat(client).choices[0].finish_reason == "length"


class TestTools:
    def test_required_call_follows_its_schema(self, client: openai.OpenAI) -> None:
        options: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False}
        choice = chat(client, **options, max_tokens=MANY).choices[0]
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        [call] = choice.message.tool_calls or []
        assert call.type == "function"
        assert call.function.name == "get_weather"
        arguments = json.loads(call.function.arguments)
        assert arguments["city"] in ("Paris", "Rome")
        assert arguments["days"] in range(1, 10)

    def test_named_call_is_of_that_tool(self, client: openai.OpenAI) -> None:
        named = {"type": "function", "function": {"name": "get_weather"}}
        chunks = streamed(client, tools=[NOW, WEATHER], tool_choice=named, max_tokens=MANY)
        [(identifier, name, arguments)] = calls(chunks)
        assert identifier.startswith("call_")
        assert name == "get_weather"
        assert json.loads(arguments)["city"] in ("Paris", "Rome")

    def test_unknown_name_is_refused(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="nobody"):
            chat(client, tools=[NOW], tool_choice={"type": "function", "function": {"name": "nobody"}})

    @pytest.mark.parametrize("stream", [False, True])
    def test_calls_in_the_models_own_format(self, client: openai.OpenAI, stream: bool) -> None:
        options: dict[str, Any] = {"tools": [WEATHER, NOW], "extra_body": {"guided_regex": HERMES}, "max_tokens": MANY}
        if stream:
            chunks = streamed(client, **options)
            deltas = [chunk.choices[0].delta for chunk in chunks]
            content = "".join(delta.content or "" for delta in deltas)
            thoughts = [delta.model_extra or {} for delta in deltas]
            reasoning = "".join(thought.get("reasoning", "") for thought in thoughts)
            assert reasoning == "".join(thought.get("reasoning_content", "") for thought in thoughts)
            found, reason = calls(chunks), chunks[-1].choices[0].finish_reason
        else:
            choice = chat(client, **options).choices[0]
            content, reason = choice.message.content or "", choice.finish_reason
            extra = choice.message.model_extra or {}
            reasoning = extra["reasoning"]
            assert reasoning == extra["reasoning_content"]
            found = [
                (call.id, call.function.name, call.function.arguments)
                for call in choice.message.tool_calls or []
                if call.type == "function"
            ]
        assert (content, reasoning, reason) == ("A moment.", "Let me see.", "tool_calls")
        assert [name for _, name, _ in found] == ["get_weather", "now"]
        assert json.loads(found[0][2])["city"] in ("Paris", "Rome")
        assert found[1][2] == "{}"
        assert len({identifier for identifier, _, _ in found}) == 2

    @pytest.mark.parametrize("stream", [False, True])
    def test_one_call_at_most_where_one_is_wanted(self, client: openai.OpenAI, stream: bool) -> None:
        options: dict[str, Any] = {
            "tools": [WEATHER, NOW],
            "parallel_tool_calls": False,
            "extra_body": {"guided_regex": HERMES},
            "max_tokens": MANY,
        }
        if stream:
            found = [name for _, name, _ in calls(streamed(client, **options))]
        else:
            message = chat(client, **options).choices[0].message
            found = [call.function.name for call in message.tool_calls or [] if call.type == "function"]
        assert found == ["get_weather"]

    def test_none_means_that_the_text_is_text(self, client: openai.OpenAI) -> None:
        options: dict[str, Any] = {"tools": [WEATHER, NOW], "extra_body": {"guided_regex": HERMES}, "max_tokens": MANY}
        message = chat(client, **options, tool_choice="none").choices[0].message
        assert not message.tool_calls
        assert "<tool_call>" in (message.content or "")

    def test_official_helper_accumulates_a_stream(self, client: openai.OpenAI) -> None:
        with client.chat.completions.stream(
            model="tiny",
            messages=HELLO,  # type: ignore[arg-type]
            tools=[WEATHER],  # type: ignore[list-item]
            tool_choice="required",
            parallel_tool_calls=False,
            max_tokens=MANY,
        ) as stream:
            message = stream.get_final_completion().choices[0].message
        assert message.tool_calls
        assert json.loads(message.tool_calls[0].function.arguments)["days"] in range(1, 10)


def calls(chunks: list[openai.types.chat.ChatCompletionChunk]) -> list[tuple[str, str, str]]:
    """Id, name and arguments of every call of a stream."""
    found: list[tuple[str, str, str]] = []
    for delta in (delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or []):
        assert delta.function is not None
        if delta.id is not None:
            assert delta.index == len(found)
            found.append((delta.id, delta.function.name or "", ""))
        identifier, name, arguments = found[delta.index]
        found[delta.index] = (identifier, name, arguments + (delta.function.arguments or ""))
    return found
