"""The step in which every sequence computes one token, as CUDA graphs: the GPU runs in one go what the host would launch
kernel by kernel, which takes longer than a small model's kernels do.

A graph reads and writes where it did when it was recorded. So there is one for every power of two of sequences, with inputs of
its own: four whole numbers for each row. Rows beyond a step's sequences repeat the last of these: they write what it writes.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from service.engine import transfer
from service.engine.attention import Part
from service.engine.batch import Span
from service.engine.varlen import Paged

log = logging.getLogger(__name__)

# Some libraries choose a kernel, and take memory, when they compute something for the first time.
WARM_UPS = 2
# Of the root mean square of the scores: a graph runs the same kernels, which may only add up in another order.
TOLERANCE = 0.05
PROBE_SEED = 21


# A forward pass: (tokens,) tokens, positions and places, what attends to what, and the rows whose scores are wanted.
Forward = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Sequence[Part], torch.Tensor], torch.Tensor]
Compute = Callable[[], torch.Tensor]
# Makes of a computation its result, and what computes that anew from what is in the inputs by then.
Record = Callable[[Compute], tuple[torch.Tensor, Callable[[], None]]]


@dataclass(frozen=True, kw_only=True)
class Table:
    """The regions of a cache, as pages of a paged kernel's size: no sequence has more than ``longest`` tokens."""

    page: int
    places: int
    longest: int


@dataclass(frozen=True, kw_only=True)
class _Graph:
    inputs: torch.Tensor  # (4, rows): tokens, positions, places, and the first page of each sequence
    scores: torch.Tensor  # (rows, vocabulary)
    compute: Compute  # has what a graph reads beside its inputs, which nobody else keeps
    replay: Callable[[], None]

    @property
    def rows(self) -> int:
        return self.inputs.shape[1]


class Graphs:
    """For up to ``most`` sequences; empty where they cannot be recorded, or compute something else."""

    def __init__(
        self,
        forward: Forward,
        table: Table,
        *,
        most: int,
        device: torch.device,
        record: Record,
        report: Callable[[str], None],
    ) -> None:
        self._forward, self._table, self._device = forward, table, device
        self._graphs: list[_Graph] = []  # the smallest first
        sizes = list(_powers_of_two(most))
        try:
            # The largest first: the others take their memory from what it has taken.
            for number, rows in enumerate(reversed(sizes), start=1):
                report(f"recording the decoding step ({number} of {len(sizes)})")
                self._graphs.insert(0, self._recorded(rows, record))
        except Exception as error:  # of any kind, from the model's own code and the driver
            log.warning("the decoding step cannot be recorded, and is launched kernel by kernel: %s", error)
            self._graphs.clear()

    def run(self, spans: Sequence[Span], drawn: torch.Tensor | None) -> torch.Tensor | None:
        """The scores of the spans' tokens, there until the next call; None: this step is none that was recorded.

        ``drawn``: what the last step drew, for tokens that are unread.
        """
        if any(span.count > 1 or not span.draws or span.told for span in spans):
            return None
        graph = next((graph for graph in self._graphs if graph.rows >= len(spans)), None)
        if graph is None:
            return None
        rows = [*spans, *[spans[-1]] * (graph.rows - len(spans))]
        inputs = transfer.numbers(
            [
                [row.tokens[0] for row in rows],
                [row.before for row in rows],
                [row.place + row.before for row in rows],
                [row.place // self._table.page for row in rows],
            ],
            self._device,
        )
        if drawn is not None:
            inputs[0] = transfer.resolved(inputs[0], drawn)
        graph.inputs.copy_(inputs)
        graph.replay()
        return graph.scores[: len(spans)]

    def _recorded(self, rows: int, record: Record) -> _Graph:
        """
        Raises:
            ValueError: the graph's scores are others.
        """
        inputs = torch.zeros(4, rows, dtype=torch.int64, device=self._device)
        compute = self._step(inputs)
        scores, replay = record(compute)
        # A first token in other regions than at the recording: what does not follow the inputs comes to light.
        regions = self._table.places // self._table.page
        random = torch.Generator().manual_seed(PROBE_SEED)
        drawn = torch.randint(min(scores.shape[-1], regions), (rows,), generator=random)
        inputs.copy_(torch.stack([drawn, torch.zeros_like(drawn), drawn * self._table.page, drawn]))
        wanted = compute().float()
        replay()
        difference = ((scores.float() - wanted).square().mean() / wanted.square().mean()).sqrt().item()
        if not difference <= TOLERANCE:
            raise ValueError(f"what was recorded gives other scores, by {difference:.2g} of their size")
        return _Graph(inputs=inputs, scores=scores, compute=compute, replay=replay)

    def _step(self, inputs: torch.Tensor) -> Compute:
        """All that follows from the inputs is computed on the device; the rest is there before, and stays."""
        table, count = self._table, inputs.shape[1]
        starts = torch.arange(count + 1, dtype=torch.int32, device=self._device)
        kept = torch.arange(count, device=self._device)
        pages = torch.arange(-(-table.longest // table.page), device=self._device)

        def compute() -> torch.Tensor:
            tokens, positions, places, firsts = inputs.unbind()
            paged = Paged(
                starts=starts,
                lengths=(positions + 1).to(torch.int32),
                # As in `Paged.of`: behind a region come others' pages, which are not read, and behind the last none.
                blocks=(firsts[:, None] + pages).clamp(max=table.places // table.page - 1).to(torch.int32),
                page=table.page,
                places=table.places,
                most_rows=1,
                longest=table.longest,
            )
            return self._forward(tokens, positions, places, [paged], kept)

        return compute


def cuda_recorder() -> Record:
    """Records on the current GPU; what it records shares memory, for only one of them is replayed at a time."""
    pool = torch.cuda.graph_pool_handle()

    def record(compute: Compute) -> tuple[torch.Tensor, Callable[[], None]]:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                compute()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads ask the driver for things of their own (the memory of a copy), which is no mistake of this one.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            scores = compute()
        return scores, graph.replay

    return record


def reserved_bytes(most: int, vocabulary: int, dtype: torch.dtype) -> int:
    """What the graphs' scores take, which are there all the time."""
    return sum(_powers_of_two(most)) * vocabulary * dtype.itemsize


def _powers_of_two(most: int) -> Iterator[int]:
    """Up to the first that is not less than ``most``."""
    size = 1
    while size < most:
        yield size
        size *= 2
    yield size
