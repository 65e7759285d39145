"""Does the model fit the GPUs, or the pod's memory, that it is given?

An error says that it cannot run: weights, overhead and one request of full length are more than the memory, or model, GPU
and runtime do not go together. A warning says that it runs, but not with everything that it was promised at once: further
requests then wait, or are taken back and computed again. Both say what would fit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from infra.findings import Finding, Severity, error, warning
from infra.gpus import GIB
from infra.plan.fit import keys
from infra.plan.fit.architecture import (
    CHECKED_FAMILIES,
    TEXT_GROUPS,
    UnknownArchitecture,
    read_architecture,
    text_config,
)
from infra.plan.fit.candidate import Candidate, FitRequest
from infra.plan.fit.compatibility import incompatibilities
from infra.plan.fit.memory import MIB, Memory
from infra.plan.fit.model_config import ModelConfig, ModelConfigError
from infra.plan.fit.number_format import UnknownQuantization, published_dtype, published_quantization
from infra.plan.fit.remedies import Change, changes


class Verdict(StrEnum):
    FITS = "fits"
    FITS_FEWER = "fits, but not all requests at full length at once"
    DOES_NOT_FIT = "does not fit"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The answer."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    memory: Memory | None = None
    """The parts of the sum; None where they could not be told."""
    checkpoint: int | None = None
    """Bytes of the weights as they are published; what runs may keep them in another format."""
    parameters: int | None = None
    context_tokens: int | None = None
    """Tokens of prompt and answer in a request of full length."""
    max_context_tokens: int | None = None
    """The most with which the configured number of requests is held at once; 0 where not even one token each is."""
    cache_room: int | None = None
    """Bytes on a GPU that our server can be told to keep for keys and values (``kv_cache_mib``)."""
    max_requests: int | None = None
    """Requests of full length that are held at once."""
    would_fit: tuple[Change, ...] = ()
    """Where memory is short: what would fit, each by itself."""


def check_fit(request: FitRequest) -> Fit:
    """Whether the model fits, and every part of the sum; does not raise, whatever config.json says."""
    try:
        known = _read(request)
    except ModelConfigError as fault:
        return Fit(verdict=Verdict.NOT_CHECKED, findings=(_unreadable(request, fault),))
    if isinstance(known, Finding):
        return Fit(verdict=Verdict.NOT_CHECKED, findings=(known,))
    memory = known.memory()
    # Without room for one request that is what is sought, and else room for all of them.
    sought = 1 if memory.headroom < 0 else request.max_running_requests
    would_fit = changes(known, sought) if memory.requests < sought else ()
    findings = (*incompatibilities(known), *_uncounted(known), *_shortage(known, memory, would_fit))
    return Fit(
        verdict=_verdict(findings, memory, request.max_running_requests),
        findings=findings,
        memory=memory,
        checkpoint=known.checkpoint_bytes(),
        parameters=known.architecture.parameters,
        context_tokens=known.context_tokens,
        max_context_tokens=known.longest(request.max_running_requests),
        cache_room=known.cache_room(),
        max_requests=memory.requests,
        would_fit=would_fit,
    )


def _read(request: FitRequest) -> Candidate | Finding:
    """What config.json says; a finding where its size cannot be told."""
    architecture = read_architecture(request.config)
    if isinstance(architecture, UnknownArchitecture):
        problem = "fit not checked: how models of this family are built is not known here"
        remedy = f"Known are {', '.join(CHECKED_FAMILIES)}. Compare the size of the weights with the memory yourself."
        return warning(f"{keys.CONFIG}: model_type", architecture.model_type, problem, remedy)
    outer = ModelConfig(request.config)
    text = text_config(outer)
    published = published_quantization(outer) or published_quantization(text)
    if isinstance(published, UnknownQuantization):
        problem = "fit not checked: how large weights are that are stored so is not known here"
        remedy = "Compare the size of the weights with the memory yourself."
        return warning(f"{keys.CONFIG}: quantization_config", published.method, problem, remedy)
    return Candidate(
        request=request,
        architecture=architecture,
        published=published,
        stored_dtype=published_dtype(outer, text),
    )


def _unreadable(request: FitRequest, fault: ModelConfigError) -> Finding:
    key = f"{keys.CONFIG}: {fault.key}"
    if fault.value is None and any(group in request.config for group in TEXT_GROUPS):
        # Models for images often leave out of the language model's group what transformers has as a default.
        remedy = "Write the key into the group, or compare the size of the weights with the memory yourself."
        return warning(key, None, f"fit not checked: {fault.problem}", remedy)
    return error(key, fault.value, fault.problem, "Take config.json from the model's repository as it is.")


def _verdict(findings: tuple[Finding, ...], memory: Memory, requests: int) -> Verdict:
    if any(finding.severity is Severity.ERROR for finding in findings):
        return Verdict.DOES_NOT_FIT
    return Verdict.FITS if memory.requests >= requests else Verdict.FITS_FEWER


def _uncounted(candidate: Candidate) -> Iterator[Finding]:
    parts = candidate.architecture.not_counted
    if parts:
        problem = f"only the language model ({candidate.architecture.model_type}) is counted"
        yield warning(f"{keys.CONFIG}", ", ".join(parts), problem, "Leave memory for the rest.")


def _shortage(candidate: Candidate, memory: Memory, would_fit: tuple[Change, ...]) -> Iterator[Finding]:
    asked, held = candidate.request.max_running_requests, memory.requests
    told, room = candidate.request.kv_cache_bytes, memory.room
    if told is not None and told > room > memory.cache_per_request:
        problem = f"is more than the {room // MIB} MiB that weights, intermediate results and overhead leave"
        yield error(keys.KV_CACHE, told // MIB, problem, f"Use {candidate.cache_room() // MIB}.")
    elif memory.headroom < 0:
        yield _too_large(candidate, memory, would_fit)
    elif held < asked:
        what = f"1 request of {candidate.context_tokens} tokens fits"
        if held > 1:
            what = f"{held} requests of {candidate.context_tokens} tokens fit"
        problem = (
            f"{what} at once ({size(memory.cache_per_request)} each, in {size(memory.cache)}); "
            "more of them wait, or are taken back and computed again"
        )
        yield warning(keys.REQUESTS, asked, problem, _remedy(would_fit))


def _too_large(candidate: Candidate, memory: Memory, would_fit: tuple[Change, ...]) -> Finding:
    request = candidate.request
    parts = {
        "weights": memory.weights,
        f"keys and values of one request of {candidate.context_tokens} tokens": memory.cache_per_request,
        "intermediate results": memory.activations,
        "overhead": memory.overhead,
        "reserve": memory.reserve,
    }
    listed = ", ".join(f"{name} {size(amount)}" for name, amount in parts.items() if amount)
    problem = f"{size(-memory.headroom)} are missing: {size(memory.budget)} may be filled, and there are {listed}"
    remedy = _remedy(would_fit)
    if request.accelerator is None:
        return error(keys.MEMORY, size(request.memory_bytes), problem, remedy)
    count = request.gpus_per_replica
    where = request.accelerator.name if count == 1 else f"{request.accelerator.name}, {count} of them"
    if request.shares > 1:
        where += f", shared by {request.shares}"
    return error(keys.GPU, where, problem if count == 1 else f"on each, {problem}", remedy)


def _remedy(would_fit: tuple[Change, ...]) -> str:
    if not would_fit:
        return "No GPU of the table holds it: use a smaller or a quantised model."
    return f"Would fit: {'; or '.join(change.text for change in would_fit)}."


def size(amount: int) -> str:
    """Bytes as a message shows them."""
    return f"{amount / GIB:.1f} GiB" if amount >= GIB else f"{amount / MIB:.0f} MiB"
