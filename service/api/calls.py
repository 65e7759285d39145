"""Tool calls as JSON and nothing else, told as they come: those that were forced, and those that a model does not mark."""

import json
import re
from collections.abc import Collection, Container, Sequence
from typing import Any, Literal

from service.api import wire
from service.api.delta import AnswerReader, CallDelta, Delta, Plain, call_id

_TYPE = r'(?:"type"\s*:\s*"function"\s*,\s*)?'
# Of a call as JSON, everything before the arguments, when its keys come in the usual order.
_HEAD = re.compile(rf'\s*\{{\s*{_TYPE}"name"\s*:\s*"([^"\\\x00-\x1f]*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{{)')
# What a call may have besides its arguments.
_LABELS = frozenset({"name", "type", "id"})
_DECODER = json.JSONDecoder()
# So much of an answer that begins like JSON is looked at before it is told as content: white space and a tool's name.
_HELD_CHARACTERS = 200


class OneCall:
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
        return (Delta(call=CallDelta(index=0, id=call_id(), name=self._name, arguments=text)),)

    def end(self) -> Sequence[Delta]:
        return ()


class CallList:
    """The text is JSON: a list of calls, or one. What should be a call and is none is told as content, at the end."""

    def __init__(self, names: Container[str] | None = None) -> None:
        """``names``: of the functions that there are, where a text may be something else."""
        self._names = names
        self._calls = 0
        self._call: JsonCall | None = None
        self._before = ""  # what stands between the last call and this one

    def add(self, text: str) -> Sequence[Delta]:
        deltas: list[Delta] = []
        while text:
            if self._call is None:
                before, brace, after = text.partition("{")
                self._before += before
                text = brace + after
                self._call = JsonCall(self._calls) if text else None
            if self._call is not None:
                told, text = self._call.add(text)
                deltas += told
                if self._call.state == "whole":
                    self._call, self._calls, self._before = None, self._calls + 1, ""
        return deltas

    def end(self) -> Sequence[Delta]:
        """The calls whose keys did not come in the usual order."""
        held = self._call.head if self._call is not None and self._call.state == "head" else ""
        deltas: list[Delta] = []
        while (start := held.find("{")) >= 0:
            try:
                item, end = _DECODER.raw_decode(held, start)
            except (ValueError, RecursionError):
                item = None
            function = called(item)
            if function is None or (self._names is not None and function[0] not in self._names):
                return [*deltas, *Plain().add(self._before + held)]
            name, arguments = function
            deltas.append(Delta(call=CallDelta(index=self._calls, id=call_id(), name=name, arguments=arguments)))
            self._calls, self._before, held = self._calls + 1, "", held[end:]
        return deltas


class Unmarked:
    """Calls are no more than JSON at the beginning of the text, one or a list, as Llama and Mistral write them."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        any_name = "|".join(map(re.escape, names))
        self._call = re.compile(
            rf'\s*\[?\s*\{{\s*{_TYPE}(?:"name"\s*:\s*"(?:{any_name})"|"(?:arguments|parameters)"\s*:\s*\{{)'
        )
        self._held = ""
        self._reader: AnswerReader | None = None

    def add(self, text: str) -> Sequence[Delta]:
        if self._reader is not None:
            return self._reader.add(text)
        self._held += text
        if self._call.match(self._held):
            self._reader = CallList(self._names)
        elif len(self._held) > _HELD_CHARACTERS or self._held.lstrip()[:1] not in ("", "[", "{"):
            self._reader = Plain()
        return self._reader.add(self._held) if self._reader is not None else ()

    def end(self) -> Sequence[Delta]:
        return self._reader.end() if self._reader is not None else Plain().add(self._held)


def called(item: Any) -> tuple[str, str] | None:
    """Name and arguments, as JSON, of a call that was read; None if it is none."""
    function = item.get("function", item) if isinstance(item, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    named = function.keys() & {"arguments", "parameters"}
    if not named and function.keys() - _LABELS:
        return None
    arguments = next((function[name] for name in sorted(named)), None)
    if isinstance(arguments, str):
        return function["name"], arguments
    try:
        return function["name"], wire.encode({} if arguments is None else arguments)
    except ValueError:  # a number that JSON does not have
        return None


class JsonCall:
    """One call as JSON, `{"name": …, "arguments": {…}}`, whose arguments are told as they come."""

    def __init__(self, index: int) -> None:
        self._index = index
        self.head = ""  # all of it, as long as it is not told
        self._depth = 0
        self._in_text = self._escaped = False
        self.state: Literal["head", "arguments", "tail", "whole"] = "head"

    def add(self, text: str) -> tuple[Sequence[Delta], str]:
        """What ``text`` tells, and the part of it that comes after the call."""
        deltas: list[Delta] = []
        if self.state == "head":
            self.head += text
            if (head := _HEAD.match(self.head)) is None:
                return deltas, ""
            deltas.append(Delta(call=CallDelta(index=self._index, id=call_id(), name=head[1])))
            text = self.head[head.end() :]
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
