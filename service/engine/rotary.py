"""Rotations that depend on how long a sequence is (rope types `longrope` and `dynamic`), made the same for all sequences.

transformers chooses them anew in each forward pass, by its longest sequence. Here a pass has tokens of many sequences, and keys
that were rotated in earlier ones; so what a sequence computes would depend on its neighbours. All of them get the rotation of one
that is as long as the context. That is transformers' own where the context has the length for which the model was trained first
(`original_max_position_embeddings`), and for longer sequences; vLLM rotates so, too.
"""

from typing import Any

import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

LONG, DYNAMIC = "longrope", "dynamic"
# In place of the kind's name: nothing chooses anew.
_SETTLED = "settled"


def settle(network: Any, context_tokens: int) -> None:
    """Settles the rotations of a network for sequences of up to ``context_tokens`` tokens, in place."""
    for module in network.modules():
        kinds = getattr(module, "rope_type", None)
        if isinstance(kinds, str) and _depends(kinds):
            _set(module, kinds, context_tokens)
            module.rope_type = _SETTLED
        elif isinstance(kinds, dict):
            for layers in [layers for layers, kind in kinds.items() if _depends(kind)]:
                _set(module, kinds[layers], context_tokens, layers)
                kinds[layers] = _SETTLED


def _depends(kind: str) -> bool:
    return kind == LONG or DYNAMIC in kind


def _set(module: Any, kind: str, context_tokens: int, layers: str | None = None) -> None:
    """``layers``: of which kind, where a module rotates for several."""
    of_layers = {} if layers is None else {"layer_type": layers}
    prefix = "" if layers is None else f"{layers}_"
    held: torch.Tensor = getattr(module, f"{prefix}inv_freq")
    frequencies, scaling = ROPE_INIT_FUNCTIONS[kind](module.config, held.device, seq_len=context_tokens, **of_layers)
    held.copy_(frequencies)
    setattr(module, f"{prefix}attention_scaling", scaling)
