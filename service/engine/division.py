"""Whether a model can be divided among ranks, as transformers' plan for its architecture says."""

from typing import Any

from transformers.distributed.configuration_utils import DistributedConfig

from service.engine.gate import UnsupportedModelError
from service.engine.ranks import Ranks

# The style of a layer whose outputs are divided; of attention these are its heads, of which each rank needs whole ones.
DIVIDED = "colwise"


def loading_options(config: Any, ranks: Ranks) -> dict[str, Any]:
    """What ``from_pretrained`` needs besides for a rank to load its part; nothing where there is one process.

    Raises:
        UnsupportedModelError: there is no plan, or a count of heads cannot be divided; names the model's kind.
    """
    if not ranks.several:
        return {}
    text = config.get_text_config()
    plan: dict[str, str] = text.base_model_tp_plan or {}
    kind, count = text.model_type, ranks.count
    if not plan:
        raise UnsupportedModelError(
            f"TENSOR_PARALLEL={count}: transformers has no plan for dividing models of the kind {kind}; use one GPU"
        )
    if any(style == DIVIDED and ("attn" in layer or "attention" in layer) for layer, style in plan.items()):
        heads = text.num_attention_heads
        for what, number in (
            ("attention heads", heads),
            ("key-value heads", getattr(text, "num_key_value_heads", None) or heads),
        ):
            if number % count:
                raise UnsupportedModelError(
                    f"TENSOR_PARALLEL={count}: does not divide the {number} {what} of this {kind}; use a number that does"
                )
    return {"distributed_config": DistributedConfig(tp_size=count)}
