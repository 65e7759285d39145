"""Whether a model can be run packed: found out by running it, on its own weights, before anybody is served.

An architecture may keep something that the packed forward pass does not know of (a recurrent state, keys shared between
layers, a bias of its own). Then its answers would be wrong without any error; so it is compared with transformers' own
forward pass once, and refused where they differ.
"""

import logging
from typing import Any

import torch

from service.engine import attention, linear, varlen
from service.engine.attention import ARGUMENT, Shapes
from service.engine.kv_cache import KvCache
from service.engine.runner import Runner
from service.engine.scheduler import Scheduler, Sequence

log = logging.getLogger(__name__)

SLIDING = "sliding_attention"
KNOWN_LAYERS = frozenset({"full_attention", SLIDING})
# Texts that are compared: one in chunks, beside another, and both with a token after them.
PROBE_LENGTHS = (21, 37)
PROBE_CHUNK = 16
PROBE_DECODES = 1
PROBE_SEED = 20
# Of the root mean square of the scores. Rounding gives 1e-6 and, in half precision with many experts, up to some percent;
# attention that lacks a part gives more than the first, and attention to the wrong tokens more than both.
TOLERANCE = {torch.float32: 1e-3}
HALF_PRECISION_TOLERANCE = 0.15


class UnsupportedModelError(ValueError):
    """The architecture cannot be run by this engine; the message names it and says why."""


@torch.inference_mode()
def check(network: Any, *, divided: bool = False) -> Shapes:
    """Leaves the network with packed attention, and returns what its layers keep.

    On a CPU its linear layers have reordered weights from then on, if that changes nothing and it is not ``divided``.

    Raises:
        UnsupportedModelError: it computes something else than the architecture does.
    """
    name = type(network).__name__
    config = network.config.get_text_config()
    if not network._supports_attention_backend:
        raise UnsupportedModelError(f"{name}: transformers does not let its attention be replaced")
    if unknown := set(getattr(config, "layer_types", None) or ()) - KNOWN_LAYERS:
        raise UnsupportedModelError(f"{name}: layers of the kind {', '.join(sorted(unknown))} are not supported")
    random = torch.Generator().manual_seed(PROBE_SEED)
    vocabulary = network.get_input_embeddings().num_embeddings
    texts = [
        torch.randint(vocabulary, (length + PROBE_DECODES,), generator=random).tolist() for length in PROBE_LENGTHS
    ]
    plain = [
        network(input_ids=torch.tensor([text], device=network.device), use_cache=False).logits[0] for text in texts
    ]
    wanted = torch.cat([scores[-PROBE_DECODES - 1 :] for scores in plain]).float()
    attention.register()
    network.set_attn_implementation(attention.NAME)
    try:
        shapes = _shapes(network)
    except Exception as error:
        raise _failed(name, error) from error
    if not divided and linear.can_reorder(network):
        _reorder(network, shapes, texts, wanted)
    if varlen.available(network.device, shapes):
        shapes.paged = True
        try:
            _compare(network, shapes, texts, wanted)
        except UnsupportedModelError as error:
            log.warning("%s; its parts are computed one by one instead of by the paged kernel", error)
            shapes.paged = False
    if not (shapes.reordered or shapes.paged):
        _compare(network, shapes, texts, wanted)
    return shapes


def _reorder(network: Any, shapes: Shapes, texts: list[list[int]], wanted: torch.Tensor) -> None:
    """Reorders its weights, and leaves them so if that changes nothing."""
    try:
        linear.reorder(network)
        shapes.reordered = True
        _compare(network, shapes, texts, wanted)
    except (UnsupportedModelError, RuntimeError) as error:  # RuntimeError: oneDNN has no such kernel after all
        log.warning("%s; its weights stay as they lie in its files", error)
        linear.restore(network)
        shapes.reordered = False


def _compare(network: Any, shapes: Shapes, texts: list[list[int]], wanted: torch.Tensor) -> None:
    name = type(network).__name__
    try:
        found = torch.cat(_packed(network, shapes, texts))
    except Exception as error:
        raise _failed(name, error) from error
    differences = ((found - wanted).square().mean(-1) / wanted.square().mean(-1)).sqrt()
    exact = shapes.dtype in TOLERANCE
    difference = (differences.max() if exact else differences.median()).item()  # rounding may choose another expert
    allowed = TOLERANCE[shapes.dtype] if exact else HALF_PRECISION_TOLERANCE
    if not difference <= allowed:
        raise UnsupportedModelError(
            f"{name}: the packed forward pass gives other scores than transformers' own "
            f"(by {difference:.2g} of their size, {allowed:.2g} is allowed); the architecture is not supported"
        )


def _failed(name: str, error: Exception) -> UnsupportedModelError:
    return UnsupportedModelError(f"{name}: the packed forward pass fails: {type(error).__name__}: {error}")


def _shapes(network: Any) -> Shapes:
    shapes = Shapes()
    network(
        input_ids=torch.zeros((1, 2), dtype=torch.int64, device=network.device), use_cache=False, **{ARGUMENT: shapes}
    )
    config = network.config.get_text_config()
    layers = config.num_hidden_layers
    if sorted(shapes.layers) != list(range(layers)):
        raise ValueError(f"of its {layers} layers, those with attention are {sorted(shapes.layers)}")
    # A window that is longer than the texts that are compared would not be missed there.
    if missing := [layer for layer in range(layers) if _has_window(config, layer) and layer not in shapes.windowed]:
        raise ValueError(f"layers {missing} do not tell of their window of {config.sliding_window} tokens")
    return shapes


def _has_window(config: Any, layer: int) -> bool:
    """Whether a layer does not see all that the model was made for."""
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if not window or window >= (getattr(config, "max_position_embeddings", None) or float("inf")):
        return False
    if kinds is not None:
        return bool(kinds[layer] == SLIDING)
    return getattr(config, "use_sliding_window", True) is not False


def _packed(network: Any, shapes: Shapes, texts: list[list[int]]) -> list[torch.Tensor]:
    """The scores after each text's prompt and after what follows it, text by text."""
    longest = max(map(len, texts))
    cache = KvCache(region_tokens=1024, page_count=0, context_tokens=longest)
    runner = Runner(network, cache, shapes)
    scheduler = Scheduler(cache, max_running=len(texts), step_tokens=PROBE_CHUNK * 3, chunk_tokens=PROBE_CHUNK)
    # Scores are wanted even after the last token, as if one more were to come.
    sequences = {Sequence(text[:-PROBE_DECODES], longest + 1): text for text in texts}
    scores: dict[Sequence, list[torch.Tensor]] = {sequence: [] for sequence in sequences}
    for sequence in sequences:
        scheduler.add(sequence)
    while any(len(found) <= PROBE_DECODES for found in scores.values()):
        turns = scheduler.plan()
        step = runner.run(turns)
        scheduler.advance(turns)
        for turn, row in zip(step.drawing, step.scores_of(range(len(step.drawing))), strict=True):
            sequence = turn.sequence
            scores[sequence].append(row)
            if len(scores[sequence]) <= PROBE_DECODES:
                sequence.tokens.append(sequences[sequence][len(sequence.tokens)])
            else:
                scheduler.remove(sequence)
    return [torch.stack(found) for found in scores.values()]
