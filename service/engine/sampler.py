"""Choosing the next token from the model's scores."""

import os

import torch

from service.engine.request import Sampling

# Nearly every top-p set lies within so many tokens: sorting these few instead of the vocabulary is many times faster.
CANDIDATES = 256
SEED_BYTES = 8


class Sampler:
    """One request's own source of chance: what else runs does not change what it draws."""

    def __init__(self, sampling: Sampling) -> None:
        self._temperature = sampling.temperature
        self._top_p = sampling.top_p
        seed = sampling.seed if sampling.seed is not None else int.from_bytes(os.urandom(SEED_BYTES), "little")
        self._random = torch.Generator().manual_seed(seed % 2**63)

    def choose(self, scores: torch.Tensor) -> int:
        """The next token for the scores (one number per token of the vocabulary)."""
        scores = scores.float().cpu()
        if self._temperature == 0:
            return int(scores.argmax())
        probabilities = torch.softmax(scores / self._temperature, dim=-1)
        if self._top_p >= 1:
            return int(torch.multinomial(probabilities, 1, generator=self._random))
        kept, tokens = self._nucleus(probabilities)
        return int(tokens[int(torch.multinomial(kept, 1, generator=self._random))])

    def _nucleus(self, probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The fewest tokens whose probabilities add up to top-p, most likely first."""
        best, tokens = probabilities.topk(min(CANDIDATES, probabilities.numel()))
        if best.sum() < self._top_p:
            best, tokens = probabilities.sort(descending=True)
        before = best.cumsum(-1) - best
        size = int((before < self._top_p).sum())
        return best[:size], tokens[:size]
