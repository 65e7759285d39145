"""Tiny networks with random weights, and the shortest way through the engine for them: no threads, no text."""

from collections.abc import Callable
from collections.abc import Sequence as Tokens
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from service.engine import gate
from service.engine.attention import Shapes
from service.engine.batch import Batch
from service.engine.graphs import Record
from service.engine.kv_cache import KvCache
from service.engine.request import Sampling
from service.engine.runner import Runner
from service.engine.sampler import Choice, Chooser, Drawn, draw
from service.engine.scheduler import Scheduler, Sequence, Turn, unread

VOCABULARY = 256
CONTEXT = 128
# Shorter than the prompts of the tests, so that it matters.
WINDOW = 12
# Wide enough that one token is clearly the most likely, however the sums are rounded.
SPREAD = 0.12

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
_SLIDING = {"sliding_window": WINDOW}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": _SLIDING,
    "gemma2": {**_SLIDING, "attn_logit_softcapping": 2.0},
    "gemma3_text": _SLIDING,
    "phi3": {},
    "granite": {},
    "olmo2": {},
    "smollm3": {},
    "cohere2": _SLIDING,
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "mixtral": _EXPERTS,
    "gpt_oss": {
        **_SLIDING,
        **_EXPERTS,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "gpt_neox": {"rotary_pct": 0.25},
    "gpt2": {"n_embd": 64, "n_head": 4, "n_layer": 3, "n_positions": CONTEXT, "n_inner": 96},
}


def network(architecture: str, **options: Any) -> Any:
    """The same weights every time."""
    config = transformers.AutoConfig.for_model(architecture, **{**_COMMON, **options})
    made: Any = transformers.AutoModelForCausalLM.from_config(config).eval()  # type: ignore[no-untyped-call]
    random = torch.Generator().manual_seed(3)
    for parameter in made.parameters():
        # Vectors are norms' weights and biases, and sinks; the first of these are near 1.
        about = 1.0 if parameter.dim() == 1 and parameter.mean() > 0.5 else 0.0
        parameter.data = torch.randn(parameter.shape, generator=random) * SPREAD + about
    return made


def generated(made: Any, prompt: list[int], count: int) -> list[int]:
    """What transformers' own greedy search adds to the prompt."""
    with torch.inference_mode():
        tokens = made.generate(
            torch.tensor([prompt]), max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0
        )
    answer: list[int] = tokens[0, len(prompt) :].tolist()
    return answer


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A network that has passed the gate."""

    network: Any
    shapes: Shapes

    @classmethod
    def of(cls, made: Any, *, divided: bool = False) -> "Packed":
        return cls(network=made, shapes=gate.check(made, divided=divided))

    def run(
        self,
        prompts: Tokens[list[int]],
        answer: int,
        *,
        sampling: Tokens[Sampling] = (),
        region_tokens: int = 16 * CONTEXT,
        page_count: int = 0,
        step_tokens: int = 512,
        chunk_tokens: int = 512,
        max_running: int = 16,
        every: int = 0,
        announce: Callable[[Batch], None] = lambda _: None,
        share: Callable[[torch.Tensor], None] = lambda _: None,
        scored: Tokens[bool] = (),
        tell: Callable[[Turn, torch.Tensor], None] = lambda *_: None,
        record: Record | None = None,
        overlap: bool = False,
    ) -> list[Sequence]:
        """The sequences with their answers; one request arrives ``every`` so many steps (0: all at once).

        ``scored``: of whose prompts the scores go to ``tell``; ``record``: the decoding step is recorded with it; ``overlap``:
        a step is launched before the last one is read.
        """
        cache = KvCache(region_tokens=region_tokens, page_count=page_count, context_tokens=CONTEXT, smallest_region=16)
        runner = Runner(self.network, cache, self.shapes, announce=announce, share=share)
        if record is not None:
            runner.record(max_running, lambda: record, lambda _: None)
        scheduler = Scheduler(cache, max_running=max_running, step_tokens=step_tokens, chunk_tokens=chunk_tokens)
        greedy = Sampling(max_tokens=answer, temperature=0)
        sequences = [
            Sequence(list(prompt), len(prompt) + answer, scores=told)
            for prompt, told in zip(prompts, scored or [False] * len(prompts), strict=True)
        ]
        choosers = {
            sequence: Chooser(sampling[index] if sampling else greedy, sequence.tokens, frozenset())
            for index, sequence in enumerate(sequences)
        }
        waiting, steps = list(sequences), 0
        launched: tuple[list[Turn], Drawn] | None = None

        def read(drawing: list[Turn], drawn: Drawn) -> None:
            for turn, choice in zip(drawing, drawn.read(), strict=True):
                assert isinstance(choice, Choice), choice
                turn.sequence.tokens[-1] = choice.token
                if len(turn.sequence.tokens) == turn.sequence.longest:
                    scheduler.remove(turn.sequence)

        while waiting or scheduler.running or scheduler.waiting:
            while waiting and steps >= every * (len(sequences) - len(waiting)):
                scheduler.add(waiting.pop(0))
            steps += 1
            turns = scheduler.plan()
            step = runner.run(turns, launched[1].tokens if launched else None) if turns else None
            if launched:
                read(*launched)
                launched = None
            if step is None:
                continue
            for turn, scores in step.told():
                tell(turn, scores)
            scheduler.advance(turns)
            for sequence in [turn.sequence for turn in turns if turn.sequence.whole]:
                scheduler.remove(sequence)
            rows = range(len(step.drawing))
            launched = step.drawing, draw(step.scores_of(rows), [choosers[turn.sequence] for turn in step.drawing])
            for row, turn in enumerate(step.drawing):
                turn.sequence.tokens.append(unread(row))
            if not overlap:
                read(*launched)
                launched = None
        return sequences


def answers(sequences: Tokens[Sequence]) -> list[list[int]]:
    return [sequence.tokens[sequence.prompt_tokens :] for sequence in sequences]
