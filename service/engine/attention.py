"""Attention over packed sequences, in place of the one that a transformers model brings.

All tokens of a step are one row. Its linear layers run once on everything; attention runs per part: sequences that compute
one token and lie side by side are one batched call, every chunk of a prompt is one. Query heads that share a key head are
treated as rows of one head, so keys and values are read where they lie, once, and never repeated or gathered.

On a CPU that reading is what attention costs. A head's keys therefore lie side by side (:func:`room`), which alone makes torch's
kernel up to twice as fast, and where they are many, two matrix products take the kernel's place (:meth:`Scores.products`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch.nn import functional
from transformers import AttentionInterface

from service.engine import transfer

NAME = "packed"  # the `attn_implementation` of models that the engine runs
ARGUMENT = "packed"  # the keyword through which a model's forward passes a step on to its layers

Layer = tuple[torch.Tensor, torch.Tensor]  # keys and values, each (places, key heads, head size)

# Numbers of a layer's keys (2 MB of float32, about what the caches of single cores hold) from which on two matrix products take
# less time than torch's attention kernel on a CPU: 0.7 of it where query heads share a key head, 0.9 where each has its own.
PRODUCTS_FROM = 500_000


def room(places: int, shape: torch.Size, *, paged: bool, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """What a layer's keys or values go into: (key heads, head size) of ``shape`` for each place.

    A kernel that reads pages wants a place's heads side by side; whatever else computes attention wants a head's places so.
    Zeros, for places that hold nothing yet are read (and weighted with 0); the system gives memory when they are used.
    """
    heads, size = shape
    if paged:
        return torch.zeros(places, heads, size, dtype=dtype, device=device)
    return torch.zeros(heads, places, size, dtype=dtype, device=device).transpose(0, 1)


@dataclass(kw_only=True)
class DecodeRun:
    """Sequences in neighbouring regions of one size that compute one token each: rows ``first`` to ``first + count``."""

    first: int
    start: int  # place of the first region
    size: int  # places per region
    lengths: list[int]  # tokens of each sequence, the new one included
    masks: dict[int | None, "Mask"] = field(default_factory=dict)

    def attend(self, output: torch.Tensor, query: torch.Tensor, layer: Layer, scores: "Scores") -> None:
        rows = slice(self.first, self.first + len(self.lengths))
        mask = self._mask(scores.window, query)
        keys, values = (self._view(part, mask) for part in layer)
        # (heads, rows, size) -> (rows, key heads, heads per key head, size)
        queries = query[:, rows].transpose(0, 1)
        queries = queries.view(len(self.lengths), keys.shape[1], -1, query.shape[-1])
        if scores.plain and not _many(keys):
            result = scores.kernel(queries, keys, values, mask)
        else:
            result = scores.products(queries, keys, values, mask, sink_shape=(1, keys.shape[1], -1, 1))
        output[rows] = result.flatten(1, 2)

    def _view(self, part: torch.Tensor, mask: "Mask") -> torch.Tensor:
        stretch = part[self.start : self.start + self.size * len(self.lengths)]
        regions = stretch.view(len(self.lengths), self.size, *part.shape[1:])
        return regions[:, mask.low : mask.high].transpose(1, 2)

    def _mask(self, window: int | None, like: torch.Tensor) -> "Mask":
        if window not in self.masks:
            shortest, longest = min(self.lengths), max(self.lengths)
            low = max(0, shortest - window) if window is not None else 0
            bias = None
            if shortest != longest:
                places = torch.arange(low, longest, device=like.device)
                ends = transfer.numbers(self.lengths, like.device).unsqueeze(1)
                hidden = places >= ends
                if window is not None:
                    hidden |= places < ends - window
                bias = _bias(hidden, like)[:, None, None]
            self.masks[window] = Mask(low, longest, bias)
        return self.masks[window]


@dataclass(kw_only=True)
class Chunk:
    """The next ``count`` tokens of a sequence, after ``before`` others: rows ``first`` to ``first + count``."""

    first: int
    count: int
    start: int  # place of the region
    before: int
    masks: dict[int | None, "Mask"] = field(default_factory=dict)

    def attend(self, output: torch.Tensor, query: torch.Tensor, layer: Layer, scores: "Scores") -> None:
        rows = slice(self.first, self.first + self.count)
        mask = self._mask(scores, query)
        heads = layer[0].shape[1]
        # (heads, rows, size) -> (key heads, heads per key head, rows, size), the keys' second dimension with stride 0
        queries = query[:, rows].view(heads, -1, self.count, query.shape[-1])
        places = slice(self.start + mask.low, self.start + mask.high)
        keys, values = (part[places].transpose(0, 1)[:, None].expand(-1, queries.shape[1], -1, -1) for part in layer)
        if scores.plain:
            result = scores.kernel(queries, keys, values, mask)
        else:
            result = scores.products(queries, keys, values, mask, sink_shape=(heads, -1, 1, 1))
        output[rows] = result.flatten(0, 1).transpose(0, 1)

    def _mask(self, scores: "Scores", like: torch.Tensor) -> "Mask":
        window = scores.window
        if window not in self.masks:
            high = self.before + self.count
            low = max(0, self.before + 1 - window) if window is not None else 0
            bias = None
            causal = self.before == 0 and (window is None or window >= high) and scores.plain
            if not causal:
                places = torch.arange(low, high, device=like.device)
                own = torch.arange(self.before, high, device=like.device).unsqueeze(1)
                hidden = places > own
                if window is not None:
                    hidden |= places <= own - window
                bias = _bias(hidden, like)
            self.masks[window] = Mask(low, high, bias, causal=causal)
        return self.masks[window]


@dataclass(frozen=True)
class Mask:
    """Of a sequence's places only ``low`` to ``high`` are read; ``bias`` is added to the scores, -inf where hidden."""

    low: int
    high: int
    bias: torch.Tensor | None
    causal: bool = False


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How a layer turns queries and keys into weights."""

    scale: float | None
    window: int | None  # a token sees itself and the ``window - 1`` before it
    softcap: float | None
    sinks: torch.Tensor | None  # one score per head that takes weight and gives no value

    @property
    def plain(self) -> bool:
        return self.softcap is None and self.sinks is None

    def kernel(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: Mask) -> torch.Tensor:
        """Weighted sums of the values, in the query's shape, by torch's attention kernel: of ``plain`` layers."""
        return functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask.bias, is_causal=mask.causal, scale=self.scale
        )

    def products(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: Mask,
        *,
        sink_shape: tuple[int, int, int, int],
    ) -> torch.Tensor:
        """The same of any layer, by matrix products; ``sink_shape`` spreads one number per head over the scores."""
        bias = None if mask.bias is None else mask.bias.expand(*query.shape[:3], keys.shape[-2])
        sinks = None if self.sinks is None else self.sinks.float().reshape(sink_shape).expand(*query.shape[:3], 1)
        if keys.device.type != "cpu":
            return self._weigh(query, keys, values, bias, sinks)
        # A product of four dimensions would copy the keys. One of the first two is the batch; the shorter one is gone through.
        axis = int(keys.shape[1] <= keys.shape[0])
        results = [
            self._weigh(
                query.select(axis, index),
                keys.select(axis, index),
                values.select(axis, index),
                None if bias is None else bias.select(axis, index),
                None if sinks is None else sinks.select(axis, index),
            )
            for index in range(keys.shape[axis])
        ]
        return torch.stack(results, axis)

    def _weigh(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        bias: torch.Tensor | None,
        sinks: torch.Tensor | None,
    ) -> torch.Tensor:
        # Keys first: in this order MKL reads their many rows three times as fast.
        scores = (keys @ query.transpose(-1, -2)).transpose(-1, -2).float() * (self.scale or query.shape[-1] ** -0.5)
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        if bias is not None:
            scores = scores + bias
        if sinks is not None:
            scores = torch.cat((scores, sinks), -1)
        return torch.softmax(scores, -1)[..., : keys.shape[-2]].to(values.dtype) @ values


class Part(Protocol):
    """Rows of a step: writes their (rows, heads, size) of ``output``, from the query's (heads, rows, size)."""

    def attend(self, output: torch.Tensor, query: torch.Tensor, layer: Layer, scores: Scores) -> None: ...


@dataclass(kw_only=True)
class Step:
    """One packed row: where its keys and values go, and what attends to what.

    Tokens that have no place only fill the row up: nothing of them is kept, and nobody reads what becomes of them.
    """

    layers: list[Layer]
    places: torch.Tensor  # of the first tokens
    parts: Sequence[Part]

    def attend(
        self, index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scores: Scores
    ) -> torch.Tensor:
        """(heads, tokens, size) each, to (tokens, heads, size)."""
        layer, count = self.layers[index], len(self.places)
        for held, new in zip(layer, (key, value), strict=True):
            held.index_copy_(0, self.places, new[:, :count].transpose(0, 1))
        output = query.new_empty(query.shape[1], query.shape[0], value.shape[-1])
        for part in self.parts:
            part.attend(output, query, layer, scores)
        output[count:] = 0
        return output


@dataclass
class Shapes:
    """Learns from one forward pass what every layer keeps: (key heads, head size) of keys and of values."""

    layers: dict[int, tuple[torch.Size, torch.Size]] = field(default_factory=dict)
    windowed: set[int] = field(default_factory=set)  # layers that see the latest tokens only
    dtype: torch.dtype = torch.float32
    plain: bool = True  # no layer has a softcap or sinks
    paged: bool = False  # a step is computed by a paged kernel
    reordered: bool = False  # the linear layers' weights are, see :mod:`service.engine.linear`

    def attend(
        self, index: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scores: Scores
    ) -> torch.Tensor:
        if index in self.layers:
            raise ValueError(f"layer {index} has more than one attention")
        self.layers[index] = (key.shape[::2], value.shape[::2])
        if scores.window is not None:
            self.windowed.add(index)
        self.dtype = key.dtype
        self.plain &= scores.plain
        return query.new_zeros(query.shape[1], query.shape[0], value.shape[-1])


def _forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packed: Step | Shapes | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in every layer, with (1, heads, tokens, size); gives (1, tokens, heads, size)."""
    if packed is None:
        raise ValueError("the model does not pass arguments on to its attention")
    scores = Scores(scale=scaling, window=sliding_window, softcap=softcap, sinks=s_aux)
    index: Any = module.layer_idx
    return packed.attend(index, query[0], key[0], value[0], scores)[None], None


def _many(keys: torch.Tensor) -> bool:
    """Whether products are the faster way to these keys. Those of other types than float32 round the scores."""
    return keys.device.type == "cpu" and keys.dtype == torch.float32 and keys.numel() >= PRODUCTS_FROM


def _bias(hidden: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros(hidden.shape, dtype=like.dtype, device=like.device).masked_fill_(hidden, float("-inf"))


def register() -> None:
    """Makes ``attn_implementation="packed"`` known to transformers, which makes no masks for it: parts know what is hidden."""
    forward: Callable[..., Any] = _forward
    AttentionInterface.register(NAME, forward)
