"""What would fit, where something does not: one change at a time, smallest first."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from infra.gpus import GIB, GPUS, Accelerator, Gpu, MigProfile, computes_fp8
from infra.plan.fit import keys
from infra.plan.fit.candidate import DEFAULT_MEMORY_SHARE, Candidate, FitRequest
from infra.plan.fit.compatibility import works
from infra.plan.fit.memory import MIB, largest_share

# Numbers of GPUs in one replica that are worth a suggestion: nodes have 8 at most.
GPU_COUNTS = (2, 4, 8)

_Choice = TypeVar("_Choice", Gpu, MigProfile)


@dataclass(frozen=True, kw_only=True)
class Change:
    """The request with one thing changed, so that it fits."""

    text: str
    """What to set, and to what."""
    request: FitRequest


def changes(candidate: Candidate, requests: int) -> tuple[Change, ...]:
    """Changes with each of which that many requests of full length fit at once."""
    told, needed = candidate.request.kv_cache_bytes, _needed_cache(candidate, requests)
    if told is None or told >= needed:
        return (*_smaller(candidate, requests), *_larger(candidate, requests))
    raised = replace(candidate, request=replace(candidate.request, kv_cache_bytes=needed))
    more = f"{keys.KV_CACHE} {needed // MIB}"
    if needed <= candidate.memory().room:
        return (Change(text=more, request=raised.request), *_smaller(candidate, requests))
    larger = (replace(change, text=f"{change.text} with {more}") for change in _larger(raised, requests))
    return (*_smaller(candidate, requests), *larger)


def _needed_cache(candidate: Candidate, requests: int) -> int:
    """Bytes, in whole MiB, that our server has to be told to keep for the keys and values of that many requests."""
    return math.ceil(requests * candidate.memory().cache_per_request / candidate.runtime.running_share / MIB) * MIB


def _smaller(candidate: Candidate, requests: int) -> Iterator[Change]:
    request, held = candidate.request, candidate.memory().requests
    if 0 < held < requests:
        yield Change(text=f"{keys.REQUESTS} {held}", request=replace(request, max_running_requests=held))
    shorter = candidate.longest(requests)
    if shorter:
        yield Change(text=f"{keys.LENGTH} {shorter}", request=replace(request, max_model_len=shorter))


def _larger(candidate: Candidate, requests: int) -> Iterator[Change]:
    if candidate.request.accelerator is None:
        yield _memory_limit(candidate, requests)
        return
    yield from _cache_dtype(candidate, requests)
    yield from _quantization(candidate, requests)
    yield from _more_or_bigger(candidate, requests)


def _holds(candidate: Candidate, request: FitRequest, requests: int) -> bool:
    changed = replace(candidate, request=request)
    return works(changed) and _has_room(changed, requests)


def _has_room(candidate: Candidate, requests: int) -> bool:
    memory = candidate.memory()
    return memory.requests >= requests and memory.room >= (candidate.request.kv_cache_bytes or 0)


def _cache_dtype(candidate: Candidate, requests: int) -> Iterator[Change]:
    """Keys and values in fp8, on GPUs that compute it and for models that keep them whole: few kernels know the others."""
    gpu, latent = candidate.request.accelerator, candidate.architecture.attention.latent_width is not None
    if not candidate.runtime.quantizes or latent or gpu is None or not computes_fp8(gpu):
        return
    request = replace(candidate.request, kv_cache_dtype="fp8")
    if request != candidate.request and _holds(candidate, request, requests):
        yield Change(text=f"{keys.KV_CACHE_DTYPE} fp8", request=request)


def _quantization(candidate: Candidate, requests: int) -> Iterator[Change]:
    gpu = candidate.request.accelerator
    if not candidate.runtime.quantizes or candidate.quantization is not None or gpu is None or not computes_fp8(gpu):
        return
    request = replace(candidate.request, quantization="fp8")
    if _holds(candidate, request, requests):
        yield Change(text=f"{keys.QUANTIZATION} fp8", request=request)


def _more_or_bigger(candidate: Candidate, requests: int) -> Iterator[Change]:
    gpu, count = candidate.request.gpu, candidate.request.gpus_per_replica
    if gpu is not None and candidate.request.shares > 1:
        yield from _fewer_shares(candidate, gpu, requests)
    elif isinstance(gpu, MigProfile):
        slice_ = _smallest(candidate, GPUS[gpu.gpu].mig.values(), requests)
        if slice_ is not None:
            text = f"the slice {slice_.profile} of {gpu.gpu}"
            yield Change(text=text, request=replace(candidate.request, gpu=slice_))
    else:
        more = (replace(candidate.request, gpus_per_replica=more) for more in GPU_COUNTS if more > count)
        enough = next((request for request in more if _holds(candidate, request, requests)), None)
        if enough is not None:
            yield Change(text=f"{keys.COUNT} {enough.gpus_per_replica}", request=enough)
    whole = _smallest(candidate, GPUS.values(), requests)
    if whole is not None:
        text = f"a pool of {whole.name}" + (f" (again {count} of them)" if count > 1 else "")
        yield Change(text=text, request=replace(candidate.request, gpu=whole))


def _fewer_shares(candidate: Candidate, gpu: Accelerator, requests: int) -> Iterator[Change]:
    for shares in range(candidate.request.shares - 1, 0, -1):
        share = DEFAULT_MEMORY_SHARE if shares == 1 else largest_share(gpu.memory_bytes, shares)
        text, request = f"{keys.SHARES} {shares}", replace(candidate.request, shares=shares, memory_share=share)
        if shares == 1:
            text = f"{keys.SHARING} none"
        if candidate.runtime.fills_a_share:
            text += f" with {keys.MEMORY_SHARE} {share:g}"
        if _holds(candidate, request, requests):
            yield Change(text=text, request=request)
            return


def _smallest(candidate: Candidate, choices: Iterable[_Choice], requests: int) -> _Choice | None:
    """The one with the least memory that holds them, among those that have more than the GPU now.

    Of those with about the same memory it is the one of the oldest generation, which costs least.
    """
    now = candidate.request.gpu
    larger = [choice for choice in choices if now is None or choice.memory_bytes > now.memory_bytes]
    for choice in sorted(larger, key=lambda choice: (choice.memory_bytes // GIB, choice.compute_capability)):
        if _holds(candidate, replace(candidate.request, gpu=choice), requests):
            return choice
    return None


def _memory_limit(candidate: Candidate, requests: int) -> Change:
    """The whole GiB that the pod needs, as a Kubernetes quantity."""
    limit = candidate.request.memory_bytes // GIB
    while True:
        limit += 1
        request = replace(candidate.request, memory_limit_bytes=limit * GIB)
        if _has_room(replace(candidate, request=request), requests):
            return Change(text=f"{keys.MEMORY} {limit}Gi", request=request)
