"""What an answer's text means, however it is cut into pieces."""

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken

from service.api.delta import AnswerReader
from service.api.marks import SpecialMarks, response_template
from service.api.messages import Conversation
from service.api.reader import reader, reads_special
from service.api.tools import structure

HERMES = "{{ '<tool_call>' }}"
HERMES_XML = "{{ '<tool_call><function=' }}"


@dataclass
class Tokenizer:
    """All that a reader looks at."""

    chat_template: str | dict[str, str]
    response_template: dict[str, Any] | None = None
    added_tokens_decoder: dict[int, AddedToken] = field(default_factory=dict)


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"days": {"type": "integer"}, "city": {"type": "string"}}},
    },
}
CALL = {"name": "weather", "arguments": {"city": 'a "}{" in it', "days": 2}}


def conversation(*, tools: bool = True, choice: Any = None, parallel: bool | None = None) -> Conversation:
    body = {
        "messages": [{"role": "user", "content": "x"}],
        "tools": [WEATHER] if tools else None,
        "tool_choice": choice,
        "parallel_tool_calls": parallel,
    }
    return Conversation.model_validate_json(json.dumps(body))


def told(answer: AnswerReader, pieces: list[str]) -> tuple[str, str, list[tuple[str, str]]]:
    """Content, thoughts, and the calls' names and arguments."""
    content = reasoning = ""
    calls: list[tuple[str, str]] = []
    for delta in [*(delta for piece in pieces for delta in answer.add(piece)), *answer.end()]:
        content += delta.content
        reasoning += delta.reasoning
        if delta.call is not None:
            if delta.call.name is not None:
                assert delta.call.id is not None
                assert delta.call.index == len(calls)
                calls.append((delta.call.name, ""))
            name, arguments = calls[delta.call.index]
            calls[delta.call.index] = (name, arguments + delta.call.arguments)
    return content, reasoning, calls


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


TEXTS = {
    "plain": ("  Just text, 1 < 2, <b>bold</b>.\n", ("  Just text, 1 < 2, <b>bold</b>.\n", "", [])),
    "thought": ("<think>\nHm.\n</think>\n\nYes.", ("Yes.", "Hm.", [])),
    "call": (
        f"Sure.\n<tool_call>\n{json.dumps(CALL)}\n</tool_call>",
        ("Sure.", "", [("weather", json.dumps(CALL["arguments"]))]),
    ),
    "two calls": (
        f"<tool_call>{json.dumps(CALL)}</tool_call>\n<tool_call>{json.dumps(CALL)}</tool_call>",
        ("", "", [("weather", json.dumps(CALL["arguments"]))] * 2),
    ),
    "keys the other way round": (
        '<tool_call>{"arguments": {"days": 2}, "name": "weather"}</tool_call>',
        ("", "", [("weather", '{"days":2}')]),
    ),
    "no call at all": ("<tool_call>weather, please</tool_call> OK", ("weather, please OK", "", [])),
    "odd name": (
        '<tool_call>{"name": "w\\q", "arguments": {}}</tool_call>',
        ('{"name": "w\\q", "arguments": {}}', "", []),
    ),
    "escaped name": (
        '<tool_call>{"name": "weathe\\u0072", "arguments": {}}</tool_call>',
        ("", "", [("weather", "{}")]),
    ),
    "cut off": ('<tool_call>{"name": "weather", "arguments": {"da', ("", "", [("weather", '{"da')])),
}


@pytest.mark.parametrize("name", TEXTS)
@given(places=st.lists(st.integers(0, 200), max_size=20))
def test_pieces_mean_the_same_as_the_whole(name: str, places: list[int]) -> None:
    text, meaning = TEXTS[name]
    assert told(reader(conversation(), "", response_template(Tokenizer(HERMES))), cut(text, places)) == meaning


@given(places=st.lists(st.integers(0, 200), max_size=20))
def test_calls_in_xml_get_their_types_from_the_schema(places: list[int]) -> None:
    text = "<tool_call>\n<function=weather>\n<parameter=days>\n2\n</parameter>\n<parameter=city>\n2\n</parameter>\n</function>\n</tool_call>"  # noqa: E501
    assert told(reader(conversation(), "", response_template(Tokenizer(HERMES_XML))), cut(text, places)) == (
        "",
        "",
        [("weather", '{"days":2,"city":"2"}')],
    )


@given(places=st.lists(st.integers(0, 200), max_size=20))
def test_list_of_forced_calls(places: list[int]) -> None:
    item = {"name": "weather", "parameters": CALL["arguments"]}
    answer = reader(conversation(choice="required"), "", response_template(Tokenizer(HERMES)))
    expected = [("weather", json.dumps(CALL["arguments"]))] * 2
    assert told(answer, cut(json.dumps([item, item]), places)) == ("", "", expected)


def test_thought_that_the_prompt_began() -> None:
    answer = reader(
        conversation(tools=False), "<|im_start|>assistant\n<think>\n", response_template(Tokenizer("{{ '</think>' }}"))
    )
    assert told(answer, ["Hm", ".\n</thi", "nk>\n\nY", "es. <tool_call>"]) == ("Yes. <tool_call>", "Hm.", [])


def test_template_of_the_models_own() -> None:
    template = {
        "start_anchor": "[/INST]",
        "fields": {
            "content": {"content": "text"},
            "tool_calls": {"open": "[TOOL_CALLS]", "close_pattern": r"\Z", "content": "json"},
        },
    }
    text = f"[TOOL_CALLS]{json.dumps([CALL, CALL])}"
    answer = reader(conversation(), "[INST] [TOOL_CALLS] [/INST]", response_template(Tokenizer("", template)))
    assert [name for name, _ in told(answer, list(text))[2]] == ["weather", "weather"]
    broken = reader(conversation(), "[/INST]", response_template(Tokenizer("", template)))
    assert told(broken, ["Well. ", "[TOOL_CALLS]", "[{"]) == ("Well.[{", "", [])


def test_special_tokens_are_wanted_where_they_mark_what_is_looked_for() -> None:
    template = {
        "start_anchor": "[/INST]",
        "fields": {
            "content": {"content": "text", "close": "</s>"},
            "thinking": {"open": "[THINK]", "close": "[/THINK]", "content": "text"},
            "tool_calls": {"open_pattern": r"\[TOOL_CALLS\]", "close_pattern": r"\Z", "content": "json"},
        },
    }
    added = ["</s>", "[TOOL_CALLS]", "[THINK]", "[IMG]"]

    def marks(*special: str) -> SpecialMarks:
        tokens = {number: AddedToken(text, special=text in special) for number, text in enumerate(added)}
        tokenizer = Tokenizer("", template, tokens)
        return SpecialMarks.of(response_template(tokenizer) or {}, tokenizer, end_tokens={0})

    assert marks("</s>") == SpecialMarks()
    assert marks("[TOOL_CALLS]").fields == {"tool_calls"}
    assert marks(*added) == SpecialMarks(fields=frozenset({"tool_calls", "thinking"}), others=frozenset({3}))
    assert reads_special(conversation(), marks("[TOOL_CALLS]"))
    assert not reads_special(conversation(tools=False), marks("[TOOL_CALLS]"))
    assert reads_special(conversation(tools=False), marks("[THINK]"))
    assert not reads_special(conversation(choice="required"), marks(*added))


@given(places=st.lists(st.integers(0, 200), max_size=20))
def test_calls_without_marks(places: list[int]) -> None:
    answer = json.dumps({"name": "weather", "parameters": CALL["arguments"]})
    call = ("weather", json.dumps(CALL["arguments"]))
    assert told(reader(conversation(), "", None), cut(answer, places)) == ("", "", [call])
    assert told(reader(conversation(), "", None), cut(f" [{answer}, {answer}]", places)) == ("", "", [call, call])
    for text in ('{"name": "Bob"}', "[1, 2] are numbers", "Hello {", '{"name": "weather', f"{{{'x' * 300}"):
        assert told(reader(conversation(), "", None), cut(text, places)) == (text, "", [])


UNUSUAL = {
    "with its type": (f'{{"type": "function", {json.dumps(CALL)[1:]}', [("weather", json.dumps(CALL["arguments"]))]),
    "keys the other way round": ('{"parameters": {"days": 2}, "name": "weather"}', [("weather", '{"days":2}')]),
    "arguments as a text": ('{"name": "weather", "arguments": "{\\"days\\": 2}"}', [("weather", '{"days": 2}')]),
    "no arguments": ('{"name": "weather", "arguments": null}', [("weather", "{}")]),
    "nothing but a name": ('{"name": "weather"}', [("weather", "{}")]),
    "two of them": (
        f'[{json.dumps(CALL)}, {{"name": "weather"}}, {json.dumps(CALL)}]',
        [
            ("weather", json.dumps(CALL["arguments"])),
            ("weather", "{}"),
            ("weather", json.dumps(CALL["arguments"], separators=(",", ":"))),
        ],
    ),
}


@pytest.mark.parametrize("name", UNUSUAL)
@given(places=st.lists(st.integers(0, 200), max_size=20))
def test_calls_without_marks_whose_keys_are_not_as_usual(name: str, places: list[int]) -> None:
    text, calls = UNUSUAL[name]
    assert told(reader(conversation(), "", None), cut(text, places)) == ("", "", calls)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "weather", "value": 3}',
        ' [{"name": "weather", "value": 3}]',
        '{"arguments": {}, "name": "nobody"}',
        '{"parameters": {"a": 1}, "cut": "of',
        '{"name": "weather", "arguments": [1e400]}',
    ],
)
@given(places=st.lists(st.integers(0, 200), max_size=20))
def test_nothing_that_is_no_call_is_swallowed(text: str, places: list[int]) -> None:
    assert told(reader(conversation(), "", None), cut(text, places)) == (text, "", [])


def test_marks_may_be_written_by_one_of_several_templates() -> None:
    several = Tokenizer({"default": "{{ messages }}", "tool_use": HERMES})
    text = f"<tool_call>{json.dumps(CALL)}</tool_call>"
    assert [name for name, _ in told(reader(conversation(), "", response_template(several)), [text])[2]] == ["weather"]


def test_response_template_that_is_none_is_left_aside() -> None:
    assert response_template(Tokenizer("", {"fields": {}})) is None


def test_references_of_a_tools_schema_hold_inside_the_list() -> None:
    recursive = {
        "type": "object",
        "$id": "https://example.com/walk",
        "properties": {"next": {"$ref": "#"}, "x": {"$ref": "#/$defs/X"}},
        "$defs": {"X": {}},
    }
    tool = {"type": "function", "function": {"name": "walk", "parameters": recursive}}
    body = {"messages": [{"role": "user", "content": "x"}], "tools": [tool], "tool_choice": "required"}
    forced = structure(Conversation.model_validate_json(json.dumps(body)))
    assert forced is not None
    moved = json.loads(forced[1].definition)["$defs"]["walk"]
    assert "$id" not in moved
    assert moved["properties"] == {"next": {"$ref": "#/$defs/walk"}, "x": {"$ref": "#/$defs/walk/$defs/X"}}
