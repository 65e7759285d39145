"""Numbers to the device and back, without waiting for what the device is still computing.

A copy from or to ordinary memory waits for all that was launched before it. One from or to memory that the system may not move
("pinned") is launched like everything else.
"""

from collections.abc import Sequence

import torch


def send(held: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host, on the device."""
    if device.type != "cuda":
        return held.to(device)
    return held.pin_memory().to(device, non_blocking=True)


def numbers(
    values: Sequence[float] | Sequence[Sequence[int]], device: torch.device, dtype: torch.dtype = torch.int64
) -> torch.Tensor:
    """Numbers of the host, on the device."""
    return send(torch.tensor(values, dtype=dtype), device)


def resolved(tokens: torch.Tensor, drawn: torch.Tensor | None) -> torch.Tensor:
    """Tokens, with those that are :func:`~service.engine.scheduler.unread` taken from what the rows of the last step drew."""
    if drawn is None:
        return tokens
    return torch.where(tokens < 0, drawn[(~tokens).clamp(min=0)], tokens)


class Reading:
    """Tensors of the device as they are after what has been launched so far; the host reads them when they are there."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
        self._done: torch.cuda.Event | None = None
        if any(tensor.is_cuda for tensor in tensors):
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record()

    def wait(self) -> list[torch.Tensor]:
        if self._done is not None:
            self._done.synchronize()
        return self._copies
