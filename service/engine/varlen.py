"""Attention of a whole step in one call of a paged kernel: torch's own variable-length attention, on GPUs.

The regions of the cache are made of pages of a kernel's size, side by side, so the table of blocks says no more than where
each region begins. Whether the kernel computes the right thing on the GPU at hand is found out when a model is loaded; where
it does not, or there is none, the parts of :mod:`service.engine.attention` do the same with a call per part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature

import torch
from torch.nn.attention.varlen import varlen_attn

from service.engine import transfer
from service.engine.attention import Layer, Scores, Shapes
from service.engine.batch import Span

# Of keys and values together; longer heads have no kernel.
LONGEST_HEAD = 256
HALF = (torch.float16, torch.bfloat16)


def available(device: torch.device, shapes: Shapes) -> bool:
    """Whether there is such a kernel for what the layers keep; torch takes tables of blocks from 2.12 on."""
    return (
        device.type == "cuda"
        and "block_table" in signature(varlen_attn).parameters
        and shapes.plain
        and shapes.dtype in HALF
        and all(keys == values and keys[-1] <= LONGEST_HEAD for keys, values in shapes.layers.values())
    )


@dataclass(frozen=True, kw_only=True)
class Paged:
    """All rows of a step; the tensors are int32, one entry per sequence (``starts``: one more)."""

    starts: torch.Tensor  # rows before each sequence
    lengths: torch.Tensor  # tokens of each sequence, the new ones included
    blocks: torch.Tensor  # (sequences, pages): which hold a sequence
    page: int  # tokens of a page
    places: int  # of all regions
    most_rows: int
    longest: int

    @classmethod
    def of(cls, spans: Sequence[Span], *, page: int, places: int, device: torch.device) -> "Paged":
        """For the spans in the order of their rows."""

        numbers = partial(transfer.numbers, device=device, dtype=torch.int32)
        starts, firsts, lengths = [0], [], []
        for span in spans:
            starts.append(starts[-1] + span.count)
            lengths.append(span.before + span.count)
            firsts.append(span.place // page)
        longest = max(lengths)
        # Behind a short region's end come others' pages, which its length keeps the kernel from reading; the last has none.
        last = places // page - 1
        blocks = [[min(first + index, last) for index in range(-(-longest // page))] for first in firsts]
        return cls(
            starts=numbers(starts),
            lengths=numbers(lengths),
            blocks=numbers(blocks),
            page=page,
            places=places,
            most_rows=max(span.count for span in spans),
            longest=longest,
        )

    def attend(self, output: torch.Tensor, query: torch.Tensor, layer: Layer, scores: Scores) -> None:
        keys, values = (part[: self.places].view(-1, self.page, *part.shape[1:]) for part in layer)
        result = varlen_attn(
            query.transpose(0, 1),
            keys,
            values,
            self.starts,
            None,
            self.most_rows,
            self.longest,
            scale=scores.scale,
            # The kernel counts the tokens before the own one; (-1, 0) is all of them.
            window_size=(-1 if scores.window is None else scores.window - 1, 0),
            enable_gqa=True,
            seqused_k=self.lengths,
            block_table=self.blocks,
        )
        assert isinstance(result, torch.Tensor)
        output.copy_(result)
