"""How much memory there is for keys and values: what this process may really have, not what the machine has."""

from collections.abc import Iterator
from pathlib import Path

import torch

from service.engine.attention import Shapes
from service.engine.kv_cache import SMALLEST_REGION
from service.engine.prefix import PAGE_TOKENS

# Of what is left: the rest is for activations, the allocator's slack, and, on a CPU, the tokenizer and the connections.
CPU_SHARE, CUDA_SHARE = 0.6, 0.92
# Running sequences come first; an eighth is enough for the prefix cache to be of use.
PREFIX_SHARE = 0.125

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_UNLIMITED = 2**60  # version 1 writes about 2^63 for "no limit"


def token_bytes(shapes: Shapes) -> int:
    """Bytes that one token's keys and values take in all layers."""
    return sum(keys.numel() + values.numel() for keys, values in shapes.layers.values()) * shapes.dtype.itemsize


def available(device: torch.device) -> int:
    """Bytes that are free now, of the GPU, or of what the machine and the control group leave to this process."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min((_machine(), *_groups()))


def plan(bytes_free: int, per_token: int, *, context_tokens: int, max_running: int, share: float) -> tuple[int, int]:
    """How many tokens of running sequences, and how many pages of the prefix cache, fit; no more than can be used.

    Raises:
        ValueError: not even one sequence fits; the message says how long one could be.
    """
    tokens = int(bytes_free * share) // per_token
    longest = -(-context_tokens // SMALLEST_REGION) * SMALLEST_REGION
    running = min(int(tokens * (1 - PREFIX_SHARE)), longest * max_running) // SMALLEST_REGION * SMALLEST_REGION
    if running < longest:
        raise ValueError(
            f"the memory that is left holds the keys and values of {running} tokens, and the context is {context_tokens}: "
            f"give the server more memory, or set MAX_MODEL_LEN to at most {running}"
        )
    pages = min(tokens - running, longest * max_running) // PAGE_TOKENS
    return running, pages


def _machine() -> int:
    lines = (_PROC / "meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _groups() -> Iterator[int]:
    """What each control group of this process that has a limit leaves, of both versions of control groups."""
    for line in (_PROC / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            files = ("memory.max", "memory.current", "inactive_file", "active_file")
            root = _CGROUPS
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file")
            root = _CGROUPS / "memory"
        else:
            continue
        group = root / path.lstrip("/")
        # Inside a container the path may be the host's, while only the container's own group is mounted.
        for directory in {root, group, *(parent for parent in group.parents if root in parent.parents)}:
            left = _left(directory, *files)
            if left is not None:
                yield left


def _left(group: Path, limit_file: str, usage_file: str, *cached: str) -> int | None:
    try:
        limit_text = (group / limit_file).read_text().strip()
        usage = int((group / usage_file).read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if limit_text == "max" or int(limit_text) >= _UNLIMITED:
        return None
    # Files that the kernel keeps in memory count as used, and make way when memory is wanted.
    return int(limit_text) - usage + sum(int(statistics.get(name, 0)) for name in cached)
