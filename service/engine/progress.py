"""Progress of downloads and of loading weights, in words."""

from collections.abc import Callable
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

# Between two reports: often enough for who waits, seldom enough for a log.
REPORT_SECONDS = 2.0


def bars(report: Callable[[str], None]) -> type[Any]:
    """A class in place of tqdm's progress bars (of the hub's client, of transformers) that reports instead of drawing."""

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # The hub's client gives its bars a name of their own, by which they can be switched off.
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "mininterval": REPORT_SECONDS, "disable": False, "leave": False})

        def display(self, *_: Any, **__: Any) -> bool:
            if self.total:
                report(f"{self.desc or 'loading'}: {100 * min(self.n / self.total, 1):.0f} %".replace(": :", ":"))
            return True

        def close(self) -> None:
            self.disable = True  # nothing was drawn that would have to be cleared

    return Bar
