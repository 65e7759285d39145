"""What an answer's text means as it comes: content, thoughts, and tool calls."""

import logging
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from transformers.utils.chat_parsing import ResponseParser
from transformers.utils.chat_parsing.response_templates import load_response_template

from service.api import wire
from service.api.messages import Conversation

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

# So much of an answer that begins like JSON is looked at before it is told as content: white space and a tool's name.
_HELD_CHARACTERS = 200

_THINK = "<think>"
_CONTENT, _CALLS = "content", "tool_calls"
_REASONING = ("reasoning_content", "thinking")

# Of a call as JSON, everything before the arguments, when its keys come in the usual order.
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\\x00-\x1f]*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')


@dataclass(frozen=True, kw_only=True)
class CallDelta:
    """A part of a call: the first one has its id and name, and all of them some of the arguments' JSON."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What a part of an answer's text means."""

    content: str = ""
    reasoning: str = ""
    call: CallDelta | None = None


class AnswerReader(Protocol):
    """Reads an answer as it comes."""

    def add(self, text: str) -> Sequence[Delta]: ...

    def end(self) -> Sequence[Delta]: ...


def reader(conversation: Conversation, prompt: str, template: Mapping[str, Any] | None) -> AnswerReader:
    """For one answer to a conversation that became ``prompt``; ``template``: see :func:`response_template`."""
    if conversation.forced:
        named = conversation.tool_choice != "required"
        return _OneCall(conversation.forced[0].function.name) if named else _CallList()
    if template is not None:
        return _Marked(template, prompt, [tool.model_dump(exclude_none=True) for tool in conversation.offered])
    if conversation.offered:
        return _Unmarked({tool.function.name for tool in conversation.offered})
    return Plain()


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
    written = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
    if "<tool_call>" in written:
        return _HERMES_XML if "<function=" in written else _HERMES
    return _HERMES if "</think>" in written else None


class Plain:
    """Text is content."""

    def add(self, text: str) -> Sequence[Delta]:
        return (Delta(content=text),) if text else ()

    def end(self) -> Sequence[Delta]:
        return ()


class _OneCall:
    """All of the text is the arguments of one function."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told = False

    def add(self, text: str) -> Sequence[Delta]:
        if not text:
            return ()
        if self._told:
            return (Delta(call=CallDelta(index=0, arguments=text)),)
        self._told = True
        return (Delta(call=CallDelta(index=0, id=_call_id(), name=self._name, arguments=text)),)

    def end(self) -> Sequence[Delta]:
        return ()


class _CallList:
    """The text is a JSON list of calls."""

    def __init__(self) -> None:
        self._calls = 0
        self._call: _JsonCall | None = None

    def add(self, text: str) -> Sequence[Delta]:
        deltas: list[Delta] = []
        while text:
            if self._call is None:
                text = text[text.find("{") :] if "{" in text else ""
                self._call = _JsonCall(self._calls) if text else None
            if self._call is not None:
                told, text = self._call.add(text)
                deltas += told
                if self._call.state == "whole":
                    self._call, self._calls = None, self._calls + 1
        return deltas

    def end(self) -> Sequence[Delta]:
        return ()


class _Unmarked:
    """Calls are no more than JSON at the beginning of the text, one or a list, as Llama and Mistral write them."""

    def __init__(self, names: Iterable[str]) -> None:
        any_name = "|".join(map(re.escape, names))
        self._call = re.compile(rf'\s*\[?\s*\{{\s*"name"\s*:\s*"(?:{any_name})"')
        self._held = ""
        self._reader: AnswerReader | None = None

    def add(self, text: str) -> Sequence[Delta]:
        if self._reader is not None:
            return self._reader.add(text)
        self._held += text
        if self._call.match(self._held):
            self._reader = _CallList()
        elif len(self._held) > _HELD_CHARACTERS or self._held.lstrip()[:1] not in ("", "[", "{"):
            self._reader = Plain()
        return self._reader.add(self._held) if self._reader is not None else ()

    def end(self) -> Sequence[Delta]:
        return self._reader.end() if self._reader is not None else Plain().add(self._held)


class _JsonCall:
    """One call as JSON, `{"name": …, "arguments": {…}}`, whose arguments are told as they come."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._head = ""
        self._depth = 0
        self._in_text = self._escaped = False
        self.state: Literal["head", "arguments", "tail", "whole"] = "head"

    def add(self, text: str) -> tuple[Sequence[Delta], str]:
        """What ``text`` tells, and the part of it that comes after the call."""
        deltas: list[Delta] = []
        if self.state == "head":
            self._head += text
            if (head := _HEAD.match(self._head)) is None:
                return deltas, ""
            deltas.append(Delta(call=CallDelta(index=self._index, id=_call_id(), name=head[1])))
            text = self._head[head.end() :]
            self.state = "arguments"
        if self.state == "arguments":
            end = self._end_of_arguments(text)
            if end > 0:
                deltas.append(Delta(call=CallDelta(index=self._index, arguments=text[:end])))
            text = text[end:]
        if self.state == "tail" and "}" in text:
            self.state = "whole"
            return deltas, text.partition("}")[2]
        return deltas, ""

    def _end_of_arguments(self, text: str) -> int:
        for place, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._in_text:
                self._escaped = character == "\\"
                self._in_text = character != '"'
            elif character == '"':
                self._in_text = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.state = "tail"
                    return place + 1
        return len(text)


class _Marked:
    """Thoughts and calls are marked in the text as a response template of transformers describes.

    White space beside them is not told. What should be a call and is none is told as content.
    """

    def __init__(self, template: Mapping[str, Any], prompt: str, tools: list[Any]) -> None:
        self._marks_known = template is _HERMES or template is _HERMES_XML
        self._has_calls = bool(tools)
        if self._marks_known:  # all that a prompt of theirs may begin of an answer
            prompt = _THINK if prompt.rstrip().endswith(_THINK) else ""
        fields = {name: field for name, field in template["fields"].items() if self._has_calls or name != _CALLS}
        self._parser = ResponseParser({**template, "fields": fields}, prefix=prompt, tools=tools)
        opened = [event["field"] for event in self._parser.initial_events if event["type"] == "region_open"]
        closed = sum(event["type"] == "region_close" for event in self._parser.initial_events)
        self._region: str | None = opened[-1] if len(opened) > closed else None  # the marked one that is open
        self._since_mark = _MARK_CHARACTERS
        self._field: str | None = None  # the one that was told last
        self._space = ""  # told only if more of the same field follows
        self._skip_space = False
        self._calls = 0
        self._call = _JsonCall(0)
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
            if field == _CALLS:
                self._field, self._space = _CALLS, ""
                self._call, self._call_text = _JsonCall(self._calls), ""
        elif kind == "region_close":
            self._region = None
            if field == _CALLS:
                return self._called(event["value"])
        elif field == _CALLS:
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
        functions = [_function(item) for item in (value if isinstance(value, list) else [value])]
        if not all(functions):
            return self._text(_CONTENT, self._call_text)
        first = self._calls
        self._calls += len(functions)
        return [
            Delta(call=CallDelta(index=first + place, id=_call_id(), name=function[0], arguments=function[1]))
            for place, function in enumerate(functions)
            if function is not None
        ]


def _function(item: Any) -> tuple[str, str] | None:
    """Name and arguments of a call as a response template gives it; None if it is none."""
    function = item.get("function", item) if isinstance(item, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    arguments = function.get("arguments", function.get("parameters", {}))
    return function["name"], arguments if isinstance(arguments, str) else wire.encode(arguments)


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
