"""Several long answers at the same time, to look at while they run."""

import asyncio
from types import TracebackType

from bench.client import Client, Outcome, Target
from bench.processes import BenchError
from bench.prompts import Prompts

LOOK_SECONDS = 0.005
PATIENCE_SECONDS = 300.0


class Streams:
    """``count`` requests, sent on entry and left at the end of the block."""

    def __init__(self, target: Target, prompts: Prompts, *, count: int, prompt_tokens: int, output_tokens: int) -> None:
        self._target = target
        self._prompts = [prompts.text(prompt_tokens) for _ in range(count)]
        self._output_tokens = output_tokens
        self._pieces = [0] * count
        self._tasks: list[asyncio.Task[Outcome]] = []
        self._leave: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> "Streams":
        for place, prompt in enumerate(self._prompts):
            client = Client(self._target, lambda place=place: self._count(place))  # type: ignore[misc]
            self._tasks.append(asyncio.create_task(client.ask(prompt, self._output_tokens, leave=self._leave)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.left()

    async def reach(self, more: int) -> None:
        """Waits until every answer has ``more`` parts than now.

        Raises:
            BenchError: one ended before, or it takes too long.
        """
        wanted = [pieces + more for pieces in self._pieces]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while any(pieces < enough for pieces, enough in zip(self._pieces, wanted, strict=True)):
                if ended := next((task for task in self._tasks if task.done()), None):
                    outcome = ended.result()
                    raise BenchError(
                        f"an answer ended after {len(outcome.pieces_at)} parts, while others still had to come: "
                        f"{outcome.error or outcome.finish_reason} {outcome.message}"
                    )
                await asyncio.sleep(LOOK_SECONDS)

    async def left(self) -> list[Outcome]:
        """Closes every connection; what came until then."""
        if not self._leave.done():
            self._leave.set_result(None)
        return await asyncio.gather(*self._tasks)

    def _count(self, place: int) -> None:
        self._pieces[place] += 1


def gaps(outcomes: list[Outcome], begin: float, end: float) -> list[float]:
    """Seconds between parts of the same answer, where the later part came after ``begin`` and the earlier before ``end``."""
    return [
        later - earlier
        for outcome in outcomes
        for earlier, later in zip(outcome.pieces_at, outcome.pieces_at[1:], strict=False)
        if later > begin and earlier < end
    ]
