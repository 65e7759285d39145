"""Linear layers on processors, with weights in the order in which oneDNN's kernels read them.

torch multiplies by weights as they lie in the file: float32 by MKL, bfloat16 by oneDNN, which reorders them each time. For
the few rows of a decoding step that takes, on the one processor tried (AMD EPYC), up to four times as long.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)

# oneDNN makes a kernel for each number of rows, in a millisecond, and keeps a thousand of them, of 0.7 MB each (measured). So
# rows are multiplied in these numbers only, which are as near to each other as the time of a few rows more is felt; beyond the
# last, in multiples of the step below.
_RANGES = (range(1, 4), range(4, 8, 2), range(8, 32, 4), range(32, 64, 8), range(64, 128, 16), range(128, 513, 32))
_NUMBERS = tuple(number for numbers in _RANGES for number in numbers)
_LARGE_STEP = 64


def rounded(rows: int) -> int:
    """The least number of rows, not less than ``rows``, for which there shall be kernels."""
    if rows > _NUMBERS[-1]:
        return -(-rows // _LARGE_STEP) * _LARGE_STEP
    return _NUMBERS[bisect_left(_NUMBERS, rows)]


class ReorderedLinear(nn.Module):
    """Computes what the layer did that it is made from. It has no ``weight``: code that asks for that wants it as it was."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias
        # No parameter and no buffer: whoever converts or moves those would get nothing that can be multiplied by.
        self._reordered: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise.default(
            rows, self._reordered, self.bias, "none", [], ""
        )
        return product

    def restored(self) -> nn.Linear:
        """The layer that it was made from."""
        linear = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter(self._reordered.to_dense(), requires_grad=False)
        linear.bias = self.bias
        return linear


def can_reorder(network: nn.Module) -> bool:
    """Whether oneDNN has kernels for the type of the network's weights on this processor."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not available or next(network.parameters()).device.type != "cpu":
        return False
    supported = {
        torch.float32: True,
        torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported(),
        torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported(),
    }
    return all(supported.get(module.weight.dtype, False) for module in network.modules() if type(module) is nn.Linear)


def reorder(network: nn.Module) -> None:
    """Replaces the linear layers, one after the other: at no time is there a second copy of all weights.

    A weight that is also the embeddings' stays there, and is there twice.
    """
    _replace(network, nn.Linear, ReorderedLinear)


def restore(network: nn.Module) -> None:
    """Takes :func:`reorder` back."""
    _replace(network, ReorderedLinear, ReorderedLinear.restored)


def _replace(network: nn.Module, kind: type[Layer], made: Callable[[Layer], nn.Module]) -> None:
    for parent in tuple(network.modules()):
        for name, child in tuple(parent.named_children()):
            if type(child) is kind:  # what is derived from it may compute something else
                setattr(parent, name, made(child))
