"""The places of the code that find something, and which of them did: a new one without a case fails a test."""

import ast
import inspect
from collections.abc import Callable, Generator, Iterator
from types import ModuleType
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")
Place = tuple[str, int]  # file and line of a yield


def places(*modules: ModuleType) -> set[Place]:
    """Every yield of the modules."""
    return {
        (module.__file__ or "", node.lineno)
        for module in modules
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Yield)
    }


def watched(find: Callable[P, Iterator[T]], seen: set[Place]) -> Callable[P, Iterator[T]]:
    """The generator function, which adds to ``seen`` where each of its answers came from."""

    def run(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        outer = cast(Generator[T, None, None], find(*args, **kwargs))
        for answer in outer:
            inner: Any = outer
            while inner.gi_yieldfrom is not None:
                inner = inner.gi_yieldfrom
            seen.add((inner.gi_frame.f_code.co_filename, inner.gi_frame.f_lineno))
            yield answer

    return run
