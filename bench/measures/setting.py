"""What the measurements share: the model, the servers, and one configuration for all of them."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from bench import gguf_model, model
from bench.arrivals import Arrival
from bench.client import OK, Outcome
from bench.drive import Driver, Progress
from bench.processes import BenchError, Command
from bench.prompts import Prompts, Scale

Dtype = Literal["float32", "bfloat16"]
Samples = dict[str, list[float]]
"""What was measured, by name: a value for each run. Times in seconds, rates per second."""
Report = Callable[[str], None]

# The server under test, in every measurement. As many at a time as the largest of them sends, and room for what they hold.
CONFIGURATION: Mapping[str, str] = {
    "MAX_RUNNING_REQUESTS": "32",
    "MAX_WAITING_REQUESTS": "256",
    "KV_CACHE_MIB": "1024",
}
# The peer's pages (of 256 tokens): 32 sequences of up to four each. By default it takes 60 % of the machine's memory.
PEER_PAGES = 128
# llama.cpp's sequences: as many, and as long. By default it answers four at a time.
LLAMA_SEQUENCES = 32
LLAMA_CONTEXT_TOKENS = LLAMA_SEQUENCES * 1024
# What its cache holds is of the type of its weights, as with the others: by default it is float16.
LLAMA_CACHE_TYPES: Mapping[Dtype, str] = {"float32": "f32", "bfloat16": "bf16"}
WORDS = model.words()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """``directory``: where `python -m service` is started; ``runs``: how often everything is measured.

    ``llama_server``: llama.cpp's server, where there is one.
    """

    model: Path
    directory: Path
    logs: Path
    runs: int
    mixed_requests: int
    llama_server: Path | None = None
    configuration: Mapping[str, str] = field(default_factory=lambda: CONFIGURATION)

    def ours(self, dtype: Dtype) -> Command:
        """The server under test."""
        return Command(
            name="the server",
            arguments=(sys.executable, "-m", "service"),
            directory=self.directory,
            variables={
                **self.configuration,
                "MODEL": str(self.model),
                "SERVED_MODEL_NAME": "bench",
                "HOST": "127.0.0.1",
                "PORT": "{port}",
                "DTYPE": dtype,
                "DEVICE": "cpu",
                "LOG_LEVEL": "warning",
            },
            ready_path="/ready",
            served_name="bench",
            options={"temperature": 0, "ignore_eos": True, "stream_options": {"include_usage": True}},
        )

    def peer(self, dtype: Dtype) -> Command:
        """`transformers serve --continuous-batching`, which is greedy and counts tokens unasked."""
        transformers = Path(sys.executable).with_name("transformers")
        arguments = (
            str(transformers), "serve", str(self.model), "--continuous-batching", "--host", "127.0.0.1",
            "--port", "{port}", "--device", "cpu", "--dtype", dtype, "--cb-num-blocks", str(PEER_PAGES),
        )  # fmt: skip
        return Command(
            name="transformers serve", arguments=arguments, ready_path="/health", served_name=str(self.model)
        )

    def llama_cpp(self, dtype: Dtype) -> Command:
        """llama.cpp's `llama-server`, which batches continuously unasked; writes its model when that is not there.

        Raises:
            BenchError: there is no such server.
        """
        if self.llama_server is None:
            raise BenchError("llama.cpp's server is needed: --llama-server FILE")
        cache = LLAMA_CACHE_TYPES[dtype]
        arguments = (
            str(self.llama_server), "--model", str(gguf_model.provide(self.model, dtype)), "--alias", "bench",
            "--host", "127.0.0.1", "--port", "{port}", "--parallel", str(LLAMA_SEQUENCES),
            "--ctx-size", str(LLAMA_CONTEXT_TOKENS), "--cache-type-k", cache, "--cache-type-v", cache,
            # It would copy what each answer leaves behind, for a prompt that begins alike: there is none.
            "--cache-ram", "0",
        )  # fmt: skip
        return Command(
            name="llama-server",
            arguments=arguments,
            ready_path="/health",
            served_name="bench",
            options={"temperature": 0, "ignore_eos": True, "stream_options": {"include_usage": True}},
        )

    def log(self, name: str) -> Path:
        """A file for what a process says."""
        self.logs.mkdir(parents=True, exist_ok=True)
        return self.logs / f"{name}.log"


class Experiment(Protocol):
    """Something measured in one go; several rows of the table may come from it."""

    async def measure(self, setting: Setting, report: Report) -> Samples:
        """Measures it ``setting.runs`` times.

        Raises:
            BenchError: it came to nothing.
        """
        ...


def prompts(seed: int, shared_tokens: int = 0) -> Prompts:
    """Of exactly the wanted number of tokens, in the benchmark's model."""
    return Prompts(WORDS, Scale(), seed, shared_tokens)


def alike(count: int, prompt_tokens: int, output_tokens: int) -> list[Arrival]:
    """``count`` requests of the same lengths."""
    return [Arrival(at=0.0, prompt_tokens=prompt_tokens, output_tokens=output_tokens)] * count


async def closed_loop(driver: Driver, arrivals: Sequence[Arrival], concurrency: int) -> list[Outcome]:
    """Their outcomes, all of them whole answers of the wanted length.

    Raises:
        BenchError: one was not.
    """
    outcomes = await driver.closed_loop(arrivals, concurrency)
    wanted = sorted((arrival.prompt_tokens, arrival.output_tokens) for arrival in arrivals)
    if wrong := next((outcome for outcome in outcomes if outcome.error != OK), None):
        raise BenchError(f"a request failed: {wrong.error} {wrong.message}")
    if sorted((outcome.prompt_tokens, outcome.output_tokens) for outcome in outcomes) != wanted:
        raise BenchError("answers are not of the wanted length: what was measured is another amount of work")
    return outcomes


def follow(total: int) -> Progress:
    return Progress(total=total)
