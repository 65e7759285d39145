"""What would fit, where something does not: one change at a time, smallest first."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from infra.gpus import GIB, GPUS, Gpu, MigProfile, computes_fp8
from infra.plan import keys
from infra.plan.candidate import Candidate
from infra.plan.compatibility import works

# Numbers of GPUs in one replica that are worth a suggestion: nodes have 8 at most.
GPU_COUNTS = (2, 4, 8)

_Choice = TypeVar("_Choice", Gpu, MigProfile)


def changes(candidate: Candidate, requests: int) -> tuple[str, ...]:
    """Changes with each of which that many requests of full length (or of the length named) fit at once."""
    return tuple(_changes(candidate, requests))


def _changes(candidate: Candidate, requests: int) -> Iterator[str]:
    shorter = candidate.longest(requests)
    if shorter:
        yield f"{keys.LENGTH} {shorter}"
    if candidate.request.accelerator is None:
        yield f"{keys.MEMORY} {_memory_limit(candidate, requests)}"
        return
    yield from _quantization(candidate, requests)
    yield from _more_or_bigger(candidate, requests)


def _holds(candidate: Candidate, requests: int) -> bool:
    return works(candidate) and candidate.memory().requests >= requests


def _quantization(candidate: Candidate, requests: int) -> Iterator[str]:
    gpu = candidate.request.accelerator
    if not candidate.runtime.quantizes or candidate.quantization is not None or gpu is None or not computes_fp8(gpu):
        return
    if _holds(replace(candidate, request=replace(candidate.request, quantization="fp8")), requests):
        yield f"{keys.QUANTIZATION} fp8"


def _more_or_bigger(candidate: Candidate, requests: int) -> Iterator[str]:
    gpu, count = candidate.request.gpu, candidate.request.gpus_per_replica
    if isinstance(gpu, MigProfile):
        bigger = _smallest(candidate, GPUS[gpu.gpu].mig.values(), requests)
        if bigger is not None:
            yield f"the slice {bigger.profile} of {gpu.gpu}"
    else:
        for more in GPU_COUNTS:
            if more > count and _holds(
                replace(candidate, request=replace(candidate.request, gpus_per_replica=more)), requests
            ):
                yield f"{keys.COUNT} {more}"
                break
    whole = _smallest(candidate, GPUS.values(), requests)
    if whole is not None:
        yield f"a pool of {whole.name}" + (f" (again {count} of them)" if count > 1 else "")


def _smallest(candidate: Candidate, choices: Iterable[_Choice], requests: int) -> _Choice | None:
    """The one with the least memory that holds them, among those that have more than the GPU now.

    Of those with about the same memory it is the one of the oldest generation, which costs least.
    """
    larger = [choice for choice in choices if choice.memory_bytes > candidate.request.memory_bytes]
    for choice in sorted(larger, key=lambda choice: (choice.memory_bytes // GIB, choice.compute_capability)):
        if _holds(replace(candidate, request=replace(candidate.request, gpu=choice)), requests):
            return choice
    return None


def _memory_limit(candidate: Candidate, requests: int) -> str:
    """The whole GiB that the pod needs, as a Kubernetes quantity."""
    memory = candidate.memory()
    missing = requests * memory.cache_per_request - memory.cache
    needed = (memory.budget + missing) / candidate.request.memory_share
    return f"{-int(-needed // GIB)}Gi"
