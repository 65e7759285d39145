"""The server's settings: environment variables, read and checked in one place. Standard library only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

DEFAULT_PORT = 8000
DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda")
SWITCH = ("on", "off")
LOG_LEVELS = ("debug", "info", "warning", "error")


class SettingsError(ValueError):
    """Everything that is wrong with the environment, one line per variable."""


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("a text that is not empty")
    return value.strip()


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return value

    return read


def _whole(low: int, high: int | None = None) -> Callable[[str], int]:
    wanted = f"a whole number from {low}" + (f" to {high}" if high is not None else "")

    def read(value: str) -> int:
        if not value.isascii() or not value.isdigit() or int(value) < low or (high is not None and int(value) > high):
            raise ValueError(wanted)
        return int(value)

    return read


def _setting(read: Callable[[str], Any], **options: Any) -> Any:
    return field(metadata={"read": read}, **options)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Each field is the environment variable of its name in capitals."""

    model: str = _setting(_text)
    """A directory with the model, or the name of a repository of the hub."""
    model_revision: str | None = _setting(_text, default=None)
    """The commit of the repository; a directory has none."""
    served_model_name: str | None = _setting(_text, default=None)
    """What clients call the model; by default the last part of ``model``."""
    host: str = _setting(_text, default="0.0.0.0")
    port: int = _setting(_whole(1, 65535), default=DEFAULT_PORT)
    dtype: str = _setting(_one_of(DTYPES), default="auto")
    """Of the weights and the computation; ``auto`` takes what the model says."""
    device: str = _setting(_one_of(DEVICES), default="auto")
    """``auto`` takes a GPU if there is one."""
    tensor_parallel: int = _setting(_whole(1), default=1)
    """Processes that the model is divided among, each with a GPU of its own."""
    max_model_len: int | None = _setting(_whole(2), default=None)
    """Tokens of prompt and answer together; by default what the model was made for."""
    max_running_requests: int = _setting(_whole(1), default=16)
    """Requests that are worked on at a time."""
    max_waiting_requests: int = _setting(_whole(0), default=128)
    """Requests that may wait for their turn; further ones are refused (429)."""
    drain_timeout_seconds: int = _setting(_whole(0), default=30)
    """How long running requests may go on after SIGTERM."""
    max_connection_age_seconds: int = _setting(_whole(1), default=30)
    """A kept-alive connection is closed after an answer beyond this age, so that its client finds new replicas."""
    log_level: str = _setting(_one_of(LOG_LEVELS), default="info")
    """``info`` has a line per request; prompts and keys are in none."""

    max_step_tokens: int | None = _setting(_whole(1), default=None)
    """Tokens of prompts that one step computes; by default what keeps the device busy. Fewer are less delay for the others."""
    kv_cache_mib: int | None = _setting(_whole(1), default=None)
    """Memory for keys and values, in MiB (of each process); by default what the weights leave, and no more than can be of use."""
    cuda_graphs: str = _setting(_one_of(SWITCH), default="on")
    """Whether a GPU replays the decoding step from a recording; not where the model is divided, or has no paged attention."""

    async_scheduling: str = _setting(_one_of(SWITCH), default="on")
    """Whether a GPU begins the next step before the host has read what the last one drew."""

    api_keys_file: str | None = _setting(_text, default=None)
    """A file with the keys that clients must send, one per line; without it everybody may use the server."""
    request_timeout_seconds: int = _setting(_whole(1), default=600)
    """From a request's arrival to the end of its answer, the wait for its turn included."""
    max_body_bytes: int = _setting(_whole(1), default=8 * 2**20)
    """Of a request (413 beyond it): a context of a million tokens as text fits."""
    max_prompts: int = _setting(_whole(1), default=128)
    """Prompts of one request."""
    max_n: int = _setting(_whole(1), default=16)
    """Answers to one prompt (`n`)."""
    max_stops: int = _setting(_whole(0), default=16)
    """Stop strings of one request, and as many stop tokens."""
    max_top_logprobs: int = _setting(_whole(0, 20), default=20)
    """Alternatives whose probability is told with each token."""

    @property
    def records_graphs(self) -> bool:
        """Ranks would all have to record the same step, or their exchanges would not fit together."""
        return self.cuda_graphs == "on" and self.tensor_parallel == 1

    @property
    def name(self) -> str:
        """The model's name in the API and in the metrics."""
        return self.served_model_name or self.model.rstrip("/").rpartition("/")[2]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Reads every field.

        Raises:
            SettingsError: names every variable that is missing or wrong, its value, and what would be right.
        """
        values: dict[str, Any] = {}
        problems = []
        for setting in fields(cls):
            variable = setting.name.upper()
            if variable not in environment:
                if setting.name == "model":
                    problems.append("MODEL is not set: name a model directory, or a repository of the hub")
                continue
            try:
                values[setting.name] = setting.metadata["read"](environment[variable])
            except ValueError as wanted:
                problems.append(f"{variable}={environment[variable]!r}: expected {wanted}")
        if problems:
            raise SettingsError("\n".join(problems))
        return cls(**values)
