"""A request that the engine works on, as its parts know it."""

import time
from dataclasses import dataclass, field

from service.engine.answer import Answer
from service.engine.request import Generation, TokenLogprob
from service.engine.sampler import Chooser
from service.engine.scheduler import Sequence


@dataclass(eq=False)
class Job:
    """What the scheduler, the sampler and the client know of it. Times are of the monotonic clock."""

    generation: Generation
    sequence: Sequence
    chooser: Chooser
    answer: Answer
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None
    first_told: float | None = None
    last_told: float = 0.0
