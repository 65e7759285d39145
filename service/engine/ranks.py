"""The processes that a model is divided among (ranks), each with its part of the weights and of the keys and values.

Rank 0 takes requests, plans steps and draws tokens. Before it computes a step it tells the others what it is, as numbers; what
it has drawn and not read yet goes from its device to theirs. Then all of them run the same forward pass, whose layers exchange
what they need, and the others drop the scores. Loading, the gate and the sizing of the cache need no telling: every rank does
the same by itself.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from service.engine.batch import Batch, decode, encode

T = TypeVar("T")

# Between ranks that compute the same step. While weights load one may be far behind another: its disk is slow.
COMPUTE_TIMEOUT = timedelta(hours=2)
# Until rank 0 has something to tell: nobody may ask anything for weeks, and that is no failure.
IDLE_TIMEOUT = timedelta(days=3650)
# Numbers that the first message of an order has room for: steps that only decode fit, longer ones take a second message.
FIRST_NUMBERS = 512
BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among the ``count`` that work together."""

    rank: int = 0
    count: int = 1
    # Of the processors, beside the one through which the devices exchange what they compute.
    control: distributed.ProcessGroup | None = None

    @classmethod
    def join(cls, count: int, device_type: str) -> "Ranks":
        """Meets the others, as the variables of torch's launcher say; ``count`` 1: there are none.

        Raises:
            ValueError: the launcher started another number of processes, or there are too few GPUs.
        """
        if count == 1:
            return ALONE
        started = os.environ.get("WORLD_SIZE")
        if started != str(count):
            raise ValueError(f"TENSOR_PARALLEL={count}: the launcher started {started} processes; let it be as many")
        rank = int(os.environ["RANK"])
        device = None
        if device_type == "cuda":
            visible = torch.cuda.device_count()
            if visible < count:
                raise ValueError(f"TENSOR_PARALLEL={count}: {visible} GPUs are visible, and each rank needs its own")
            device = torch.device("cuda", rank)
            torch.cuda.set_device(device)
        distributed.init_process_group(BACKENDS[device_type], device_id=device, timeout=COMPUTE_TIMEOUT)
        control = distributed.new_group(backend="gloo", timeout=IDLE_TIMEOUT)
        assert isinstance(control, distributed.ProcessGroup)  # it is of those who are in it
        return cls(rank=rank, count=count, control=control)

    @property
    def several(self) -> bool:
        return self.count > 1

    def device(self, device_type: str) -> torch.device:
        """The one that this rank computes on."""
        return torch.device(f"cuda:{self.rank}" if self.several and device_type == "cuda" else device_type)

    def after_first(self, do: Callable[[], T]) -> T:
        """Does it in rank 0, and then in the others."""
        if self.rank:
            self.meet()
        done = do()
        if not self.rank:
            self.meet()
        return done

    def meet(self) -> None:
        """Returns when every rank has come so far."""
        if self.several:
            distributed.barrier(self.control)

    def least(self, number: int) -> int:
        """The smallest of the ranks' numbers."""
        if not self.several:
            return number
        smallest = torch.tensor(number)
        distributed.all_reduce(smallest, distributed.ReduceOp.MIN, self.control)
        return int(smallest)

    def tell(self, batch: Batch) -> None:
        """For rank 0: the others compute it, too."""
        if self.several:
            self._send(encode(batch))

    def hear(self) -> Batch | None:
        """For the others: waits for what rank 0 tells; None: it is over."""
        numbers = torch.zeros(1 + FIRST_NUMBERS, dtype=torch.int64)
        distributed.broadcast(numbers, 0, self.control)
        length = int(numbers[0])
        if length > FIRST_NUMBERS:
            more = torch.zeros(length - FIRST_NUMBERS, dtype=torch.int64)
            distributed.broadcast(more, 0, self.control)
            numbers = torch.cat((numbers, more))
        return decode(numbers[1 : 1 + length].tolist()) if length else None

    def share(self, drawn: torch.Tensor) -> None:
        """Makes rank 0's numbers everybody's, from device to device."""
        if self.several:
            distributed.broadcast(drawn, 0)

    def dismiss(self) -> None:
        """For rank 0: there is nothing more to hear."""
        if self.several:
            self._send([])

    def leave(self) -> None:
        """Ends what :meth:`join` began."""
        if self.several:
            distributed.destroy_process_group()

    def _send(self, numbers: list[int]) -> None:
        first, more = numbers[:FIRST_NUMBERS], numbers[FIRST_NUMBERS:]
        padding = [0] * (FIRST_NUMBERS - len(first))
        distributed.broadcast(torch.tensor([len(numbers), *first, *padding], dtype=torch.int64), 0, self.control)
        if more:
            distributed.broadcast(torch.tensor(more, dtype=torch.int64), 0, self.control)


ALONE = Ranks()
