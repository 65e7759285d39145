"""Thoughts and tool calls that a model marks in its text, as a response template of transformers describes the marks."""

import logging
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers.utils.chat_parsing import ResponseParser
from transformers.utils.chat_parsing.response_templates import load_response_template

from service.api.calls import JsonCall, called
from service.api.delta import CallDelta, Delta, call_id

log = logging.getLogger(__name__)

# How Hermes, Qwen and many others write: thoughts in <think>, each call as JSON in <tool_call>.
_HERMES: dict[str, Any] = {
    "start_anchor_pattern": r"\A",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open": "<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "content_args": {"allow_non_json": True},
            "transform": {"function": "{content}"},
        },
        "content": {"content": "text"},
    },
}
# And Qwen's later coder models: <tool_call><function=name><parameter=key>value</parameter></function></tool_call>.
_PARAMETERS = {"tag_pattern": r"<parameter=(?P<key>[^>]+)>\n?(?P<value>.*?)\n?</parameter>"}
_HERMES_XML: dict[str, Any] = {
    **_HERMES,
    "fields": {
        **_HERMES["fields"],
        "tool_calls": {
            "open_pattern": r"<tool_call>\s*<function=(?P<name>[^>]+)>",
            "close_pattern": r"</function>\s*</tool_call>",
            "repeats": True,
            "content": "xml-inline",
            "content_args": _PARAMETERS,
            "transform": {"function": {"name": "{name}", "arguments": "{content}"}},
        },
    },
}
# Of both: what a mark begins with, and more characters than any of them has.
_MARK, _MARK_CHARACTERS = "<", 64

_THINK = "<think>"
_CONTENT, CALLS = "content", "tool_calls"
_REASONING = ("reasoning_content", "thinking")


def response_template(tokenizer: Any) -> Mapping[str, Any] | None:
    """How a model marks thoughts and calls: as its tokenizer says, or by what its chat template writes."""
    declared: dict[str, Any] | None = getattr(tokenizer, "response_template", None)
    if declared is not None:
        try:
            load_response_template(declared)
        except ValueError as error:
            log.warning("the tokenizer's response template is none, answers stay as they are: %s", error)
            return None
        return declared
    templates = tokenizer.chat_template or ""
    written = templates if isinstance(templates, str) else "\n".join(templates.values())  # each for a use of its own
    if "<tool_call>" in written:
        return _HERMES_XML if "<function=" in written else _HERMES
    return _HERMES if "</think>" in written else None


@dataclass(frozen=True, kw_only=True)
class SpecialMarks:
    """What of a template special tokens mark, which a text is told without unless somebody wants them."""

    fields: frozenset[str] = frozenset()
    others: frozenset[int] = frozenset()
    """The special tokens that mark nothing."""

    @classmethod
    def of(cls, template: Mapping[str, Any], tokenizer: Any, end_tokens: Container[int]) -> "SpecialMarks":
        """``end_tokens`` are no part of a text in any case."""
        special = {
            number: token.content
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special and number not in end_tokens
        }
        marks = {name: _marks(field) for name, field in template["fields"].items()}
        return cls(
            fields=frozenset(name for name, text in marks.items() if any(token in text for token in special.values())),
            others=frozenset(
                number for number, token in special.items() if not any(token in text for text in marks.values())
            ),
        )


def _marks(field: Mapping[str, Any]) -> str:
    """What opens and closes a field, literals and patterns, as one text in which a literal is found as it is."""
    marks = (field.get(key) or "" for key in ("open", "open_pattern", "close", "close_pattern"))
    return "\n".join("\n".join(mark) if isinstance(mark, list) else mark for mark in marks).replace("\\", "")


class Marked:
    """Thoughts and calls are marked in the text as a response template of transformers describes.

    White space beside them is not told. What should be a call and is none is told as content.
    """

    def __init__(self, template: Mapping[str, Any], prompt: str, tools: list[Any]) -> None:
        self._marks_known = template is _HERMES or template is _HERMES_XML
        self._has_calls = bool(tools)
        if self._marks_known:  # all that a prompt of theirs may begin of an answer
            prompt = _THINK if prompt.rstrip().endswith(_THINK) else ""
        fields = {name: field for name, field in template["fields"].items() if self._has_calls or name != CALLS}
        self._parser = ResponseParser({**template, "fields": fields}, prefix=prompt, tools=tools)
        opened = [event["field"] for event in self._parser.initial_events if event["type"] == "region_open"]
        closed = sum(event["type"] == "region_close" for event in self._parser.initial_events)
        self._region: str | None = opened[-1] if len(opened) > closed else None  # the marked one that is open
        self._since_mark = _MARK_CHARACTERS
        self._field: str | None = None  # the one that was told last
        self._space = ""  # told only if more of the same field follows
        self._skip_space = False
        self._calls = 0
        self._call = JsonCall(0)
        self._call_text = ""
        self._broken = False

    def add(self, text: str) -> Sequence[Delta]:
        if not text:
            return ()
        if self._is_content(text):
            return self._text(_CONTENT, text)
        place = text.rfind(_MARK)
        self._since_mark = self._since_mark + len(text) if place < 0 else len(text) - place
        return self._read(text)

    def end(self) -> Sequence[Delta]:
        deltas = [] if self._broken else list(self._read(None))
        if self._field == _CONTENT and self._space:
            deltas.append(Delta(content=self._space))
        return deltas

    def _is_content(self, text: str) -> bool:
        """Whether the parser need not look at it: that costs more than all else that is done for a token."""
        if self._broken or (self._field == _CONTENT and not self._has_calls and not self._skip_space):
            return True
        outside = self._region in (None, _CONTENT)
        return self._marks_known and outside and self._since_mark >= _MARK_CHARACTERS and _MARK not in text

    def _read(self, text: str | None) -> Sequence[Delta]:
        try:
            events = self._parser.finalize()[1] if text is None else self._parser.feed(text)
        except Exception:  # what a template does with a call that it cannot read is of any kind
            self._broken = True
            return self._text(_CONTENT, self._call_text + (text or ""))
        return [delta for event in events for delta in self._deltas(event)]

    def _deltas(self, event: Mapping[str, Any]) -> Sequence[Delta]:
        field, kind = event["field"], event["type"]
        if kind == "region_open":
            self._region = field
            if field == CALLS:
                self._field, self._space = CALLS, ""
                self._call, self._call_text = JsonCall(self._calls), ""
        elif kind == "region_close":
            self._region = None
            if field == CALLS:
                return self._called(event["value"])
        elif field == CALLS:
            self._call_text += event["text"]
            return self._call.add(event["text"])[0]
        elif field == _CONTENT or field in _REASONING:
            return self._text(field, event["text"])
        return ()

    def _text(self, field: str, text: str) -> Sequence[Delta]:
        if field != self._field:
            self._skip_space = self._field is not None or field != _CONTENT
            self._field, self._space = field, ""
        if self._skip_space:
            text = text.lstrip()
        if not text:
            return ()
        self._skip_space = False
        text = self._space + text
        told = text.rstrip()
        self._space = text[len(told) :]
        if not told:
            return ()
        return (Delta(content=told) if field == _CONTENT else Delta(reasoning=told),)

    def _called(self, value: Any) -> Sequence[Delta]:
        if self._call.state != "head":  # it has been told as it came
            self._calls += 1
            return ()
        functions = [called(item) for item in (value if isinstance(value, list) else [value])]
        if not all(functions):
            return self._text(_CONTENT, self._call_text)
        first = self._calls
        self._calls += len(functions)
        return [
            Delta(call=CallDelta(index=first + place, id=call_id(), name=function[0], arguments=function[1]))
            for place, function in enumerate(functions)
            if function is not None
        ]
