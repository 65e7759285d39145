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
from infra.plan import keys
from infra.plan.architecture import CHECKED_FAMILIES, UnknownArchitecture, read_architecture, text_config
from infra.plan.candidate import Candidate, FitRequest
from infra.plan.compatibility import incompatibilities
from infra.plan.memory import Memory
from infra.plan.model_config import ModelConfig, ModelConfigError
from infra.plan.number_format import UnknownQuantization, published_dtype, published_quantization
from infra.plan.remedies import changes


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
    parameters: int | None = None
    context_tokens: int | None = None
    """Tokens of prompt and answer in a request of full length."""
    max_context_tokens: int | None = None
    """The most with which the configured number of requests is held at once; 0 where not even one token each is."""
    max_requests: int | None = None
    """Requests of full length that are held at once."""


def check_fit(request: FitRequest) -> Fit:
    """Whether the model fits, and every part of the sum; does not raise, whatever config.json says."""
    try:
        known = _read(request)
    except ModelConfigError as fault:
        remedy = "Take config.json from the model's repository as it is."
        finding = error(f"{keys.CONFIG}: {fault.key}", fault.value, fault.problem, remedy)
        return Fit(verdict=Verdict.NOT_CHECKED, findings=(finding,))
    if isinstance(known, Finding):
        return Fit(verdict=Verdict.NOT_CHECKED, findings=(known,))
    memory = known.memory()
    findings = (*incompatibilities(known), *_uncounted(known), *_shortage(known, memory))
    return Fit(
        verdict=_verdict(findings, memory, request.max_running_requests),
        findings=findings,
        memory=memory,
        parameters=known.architecture.parameters,
        context_tokens=known.context_tokens,
        max_context_tokens=known.longest(request.max_running_requests),
        max_requests=memory.requests,
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


def _verdict(findings: tuple[Finding, ...], memory: Memory, requests: int) -> Verdict:
    if any(finding.severity is Severity.ERROR for finding in findings):
        return Verdict.DOES_NOT_FIT
    return Verdict.FITS if memory.requests >= requests else Verdict.FITS_FEWER


def _uncounted(candidate: Candidate) -> Iterator[Finding]:
    parts = candidate.architecture.not_counted
    if parts:
        problem = f"only the language model ({candidate.architecture.model_type}) is counted"
        yield warning(f"{keys.CONFIG}", ", ".join(parts), problem, "Leave memory for the rest.")


def _shortage(candidate: Candidate, memory: Memory) -> Iterator[Finding]:
    asked = candidate.request.max_running_requests
    if memory.headroom < 0:
        yield _too_large(candidate, memory)
    elif memory.requests < asked:
        held, tokens = memory.requests, candidate.context_tokens
        problem = (
            f"{held} request{'' if held == 1 else 's'} of {tokens} tokens fit at once ({size(memory.cache_per_request)} "
            f"each, in {size(memory.cache)}); more of them wait, or are taken back and computed again"
        )
        remedy = _would_fit((f"{keys.REQUESTS} {held}", *changes(candidate, asked)))
        yield warning(keys.REQUESTS, asked, problem, remedy)


def _too_large(candidate: Candidate, memory: Memory) -> Finding:
    request = candidate.request
    problem = (
        f"weights ({size(memory.weights)}), keys and values of one request of {candidate.context_tokens} tokens "
        f"({size(memory.cache_per_request)}), intermediate results ({size(memory.activations)}) and overhead "
        f"({size(memory.overhead)}) are {size(-memory.headroom)} more than the {size(memory.budget)} that may be filled"
    )
    remedy = _would_fit(changes(candidate, 1))
    if request.accelerator is None:
        return error(keys.MEMORY, size(request.memory_bytes), problem, remedy)
    count = request.gpus_per_replica
    return error(
        keys.GPU, request.accelerator.name, f"on {'it' if count == 1 else f'each of {count}'}, {problem}", remedy
    )


def _would_fit(choices: tuple[str, ...]) -> str:
    if not choices:
        return "No GPU of the table holds it: use a smaller or a quantised model."
    return f"Would fit: {'; or '.join(choices)}."


def size(amount: int) -> str:
    """Bytes as a message shows them."""
    return f"{amount / GIB:.1f} GiB"
