"""Nothing that launches a step on a GPU waits for it. The GPU is torch's own pretence of one: shapes and places, no numbers."""

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import transformers
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from service.engine import gate, transfer, varlen
from service.engine.kv_cache import KvCache
from service.engine.request import Sampling
from service.engine.runner import Runner
from service.engine.sampler import Chooser, Drawn, draw
from service.engine.scheduler import Scheduler, unread
from service.engine.scheduler import Sequence as Tokens
from tests.service.engine.networks import ARCHITECTURES, CONTEXT, VOCABULARY, network

GPU = torch.device("cuda", 0)
STEPS = 6
ANSWER = 20


class Copies(TorchDispatchMode):
    """Notes where memory that is not pinned goes to a GPU, or comes from one: both wait for all that was launched before."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        aten = torch.ops.aten
        if (func is aten.copy_.default and args[0].device != args[1].device) or (
            func is aten._to_copy.default and args[0].device != result.device
        ):
            frame = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename][-2]
            self.places.add(f"{func}: {frame.filename}:{frame.lineno}")
        return result


class NeverRead:
    """In place of :class:`transfer.Reading`, whose event needs a driver."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        assert all(tensor.is_cuda for tensor in tensors)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    real = transfer.send

    def send(held: torch.Tensor, device: torch.device) -> torch.Tensor:
        return torch.empty(held.shape, dtype=held.dtype, device=device) if device == GPU else real(held, device)

    monkeypatch.setattr(transfer, "send", send)
    monkeypatch.setattr(transfer, "Reading", NeverRead)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))


def launched(architecture: str, options: Sequence[dict[str, Any]], prompts: Sequence[int]) -> set[str]:
    """Where some steps wait for the device, with prompts of so many tokens.

    Raises:
        DataDependentOutputException: they ask the device for a number.
    """
    made = network(architecture, **ARCHITECTURES[architecture])
    shapes = gate.check(made)
    shapes.reordered = False
    copies = Copies()
    with FakeTensorMode(allow_non_fake_inputs=True):
        with GPU:
            config = made.config
            config._attn_implementation = "packed"
            pretence: Any = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        cache = KvCache(region_tokens=16 * CONTEXT, page_count=20, context_tokens=CONTEXT, smallest_region=16)
        runner = Runner(pretence.eval(), cache, shapes)
        scheduler = Scheduler(cache, max_running=8, step_tokens=64, chunk_tokens=16)
        choosers: dict[Tokens, Chooser] = {}
        for count, option in zip(prompts, options, strict=True):
            sequence = Tokens([5] * count, count + ANSWER)
            choosers[sequence] = Chooser(Sampling(max_tokens=ANSWER, **option), sequence.tokens, frozenset())
            scheduler.add(sequence)
        drawn: Drawn | None = None
        for _ in range(STEPS):
            turns = scheduler.plan()
            with copies:
                result = runner.run(turns, drawn.tokens if drawn else None)
                mine = [choosers[turn.sequence] for turn in result.drawing]
                drawn, before = draw(result.scores_of(range(len(mine))), mine), drawn
            scheduler.advance(turns)
            for sequence, chooser in choosers.items() if before else ():
                if sequence.tokens[-1] < 0:
                    sequence.tokens[-1] = 5
                    chooser.accept(5)
            for row, turn in enumerate(result.drawing):
                turn.sequence.tokens.append(unread(row))
    return copies.places


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt_oss", "mixtral", "gpt_neox"])
def test_step_is_launched_without_waiting(architecture: str) -> None:
    options: list[dict[str, Any]] = [
        {"temperature": 0},
        {"top_k": 5, "top_p": 0.9, "top_logprobs": 2},
        {"min_p": 0.1, "logit_bias": {3: 1.0}, "presence_penalty": 1.0, "repetition_penalty": 1.2, "min_tokens": 2},
        {"top_logprobs": 0},
        {"top_p": 0.9},
    ]
    assert launched(architecture, options, (5, 40, 90, 5, 5)) == set()


@pytest.mark.usefixtures("pretended")
def test_paged_step_is_launched_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", lambda query, *_, **__: torch.empty_like(query))
    real = gate.check

    def paged(made: Any) -> Any:
        shapes = real(made)
        shapes.paged = True
        return shapes

    monkeypatch.setattr(gate, "check", paged)
    assert launched("qwen3", [{"temperature": 0}] * 3, (5, 40, 90)) == set()


@pytest.mark.parametrize("copy", [lambda: torch.zeros(3, device=GPU)[[0, 1]], lambda: torch.zeros(3).to(GPU)])
def test_copy_would_be_noticed(copy: Callable[[], Any]) -> None:
    copies = Copies()
    with FakeTensorMode(allow_non_fake_inputs=True), copies:
        copy()
    assert copies.places


def test_question_would_be_noticed() -> None:
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        torch.zeros(3, device=GPU).tolist()


def test_unread_tokens_come_from_what_was_drawn() -> None:
    tokens = torch.tensor([7, unread(2), 9, unread(0)])
    assert transfer.resolved(tokens, torch.tensor([20, 21, 22])).tolist() == [7, 22, 9, 20]
    assert transfer.resolved(tokens[::2], None).tolist() == [7, 9]
    assert all(unread(row) < 0 for row in range(VOCABULARY))
