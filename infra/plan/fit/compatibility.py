"""What model, GPU and runtime have against each other, whatever the memory."""

from collections.abc import Iterator

from infra.findings import Finding, Severity, error, warning
from infra.gpus import MigProfile, computes_bfloat16, computes_fp8
from infra.plan.fit import keys
from infra.plan.fit.candidate import Candidate
from infra.plan.fit.number_format import WHILE_LOADING, Method

# From which compute capability on vLLM has kernels for weights of this method.
COMPUTES_SINCE: dict[Method, tuple[int, int]] = {
    "awq": (7, 5),
    "gptq": (7, 5),
    "int4": (8, 0),
    "int8": (7, 5),
    "fp8": (8, 0),
    "mxfp4": (8, 0),
    "bitsandbytes": (7, 0),
}


def incompatibilities(candidate: Candidate) -> Iterator[Finding]:
    """Errors, and warnings where it works in another way than one may expect."""
    yield from _length(candidate)
    yield from _number_format(candidate)
    yield from _quantization(candidate)
    yield from _division(candidate)


def works(candidate: Candidate) -> bool:
    return all(finding.severity is not Severity.ERROR for finding in incompatibilities(candidate))


def _length(candidate: Candidate) -> Iterator[Finding]:
    asked, own = candidate.request.max_model_len, candidate.own_context_tokens
    if asked is not None and asked > own:
        problem = f"is more than the {own} tokens that the model was made for"
        yield error(keys.LENGTH, asked, problem, f"Set it to {own} at most, or leave it out.")


def _number_format(candidate: Candidate) -> Iterator[Finding]:
    gpu = candidate.request.accelerator
    if gpu is None or candidate.dtype != "bfloat16" or computes_bfloat16(gpu):
        return
    asked = candidate.request.dtype
    problem = f"{gpu.name} does not compute bfloat16" + ("" if asked else ", in which the checkpoint is stored")
    yield error(keys.DTYPE, asked or "auto", problem, "Use float16, or a GPU from Ampere on (A10, L4, A30 and later).")


def _quantization(candidate: Candidate) -> Iterator[Finding]:
    asked, stored = candidate.request.quantization, candidate.published
    if asked is None and stored is None:
        return
    if asked is not None and stored is not None and asked != stored.name:
        remedy = "Leave it out: the runtime reads it from the checkpoint."
        yield error(keys.QUANTIZATION, asked, f"the checkpoint is stored as {stored.name}", remedy)
    elif not candidate.runtime.quantizes:
        yield _without_quantization(candidate, stored.method if stored is not None else asked)
    elif candidate.quantization is None:
        problem = "takes a checkpoint that was quantised so, and this one is not"
        yield error(keys.QUANTIZATION, asked, problem, f"Name such a checkpoint, or use {' or '.join(WHILE_LOADING)}.")
    else:
        yield from _kernels(candidate, candidate.quantization.method)


def _without_quantization(candidate: Candidate, method: str | None) -> Finding:
    runtime = candidate.request.runtime
    if candidate.published is not None and method == "mxfp4":
        problem = (
            f"unpacks the checkpoint's mxfp4 weights to {candidate.dtype}, which takes almost four times the memory"
        )
        return warning(keys.RUNTIME, runtime, problem, "Use vllm.")
    problem = f"does not compute with {method} weights"
    return error(keys.RUNTIME, runtime, problem, "Use vllm, or a checkpoint that is not quantised.")


def _kernels(candidate: Candidate, method: Method) -> Iterator[Finding]:
    gpu = candidate.request.accelerator
    if gpu is None:
        return
    if gpu.compute_capability < COMPUTES_SINCE[method]:
        remedy = "Use a GPU from Ampere on (A10, L4, A30 and later), or a checkpoint in awq or gptq."
        yield error(keys.QUANTIZATION, method, f"{gpu.name} cannot compute with such weights", remedy)
    elif method == "fp8" and not computes_fp8(gpu):
        problem = f"{gpu.name} does not compute fp8: the weights take half the memory, and nothing gets faster"
        yield warning(keys.QUANTIZATION, method, problem, "Use L4, L40S, H100 or later for both.")


def _division(candidate: Candidate) -> Iterator[Finding]:
    """Why the model cannot be divided among the GPUs of a replica."""
    count, gpu = candidate.request.gpus_per_replica, candidate.request.accelerator
    if count <= 1:
        return
    if isinstance(gpu, MigProfile):
        problem = f"slices of a GPU ({gpu.profile}) cannot work on one model together"
        yield error(keys.COUNT, count, problem, "Use one bigger slice, or whole GPUs.")
    elif candidate.runtime.splits_by_plan:
        yield from _division_by_plan(candidate, count)
    else:
        yield from _division_by_vllm(candidate, count)


def _division_by_plan(candidate: Candidate, count: int) -> Iterator[Finding]:
    architecture = candidate.architecture
    if architecture.split == "no":
        problem = f"transformers has no plan for dividing {architecture.model_type} among GPUs"
        yield error(keys.COUNT, count, problem, "Use one GPU, or runtime vllm.")
    elif architecture.split == "heads":
        attention = architecture.attention
        for name, heads in (("attention heads", attention.heads), ("key-value heads", attention.kv_heads)):
            if heads % count:
                yield _indivisible(candidate, f"{heads} {name}", "a number that does, or runtime vllm")


def _division_by_vllm(candidate: Candidate, count: int) -> Iterator[Finding]:
    architecture, attention = candidate.architecture, candidate.architecture.attention
    if attention.heads % count:
        yield _indivisible(candidate, f"{attention.heads} attention heads", "a number that does")
    shared = attention.latent_width is not None or count % attention.kv_heads == 0
    if attention.kv_heads % count and not shared:
        which = "a number that does, or a multiple (GPUs then hold copies)"
        yield _indivisible(candidate, f"{attention.kv_heads} key-value heads", which)
    widths = [("intermediate size", architecture.width)] if architecture.width else []
    if architecture.experts is not None:
        widths.append(("experts' intermediate size", architecture.experts.width))
    for name, width in widths:
        if width % count:
            yield _indivisible(candidate, f"the {name} of {width}", "a number that does")
        else:
            yield from _shared_scales(candidate, name, width // count)


def _shared_scales(candidate: Candidate, name: str, piece: int) -> Iterator[Finding]:
    """Numbers that share a scale have to stay on one GPU."""
    quantization, count = candidate.quantization, candidate.request.gpus_per_replica
    if quantization is None:
        return
    together = quantization.group or (quantization.block[0] if quantization.block else 1)
    if piece % together:
        problem = (
            f"leaves {piece} of the {name} on a GPU, while {quantization.method} scales {together} of them together"
        )
        yield error(keys.COUNT, count, problem, "Use fewer GPUs for a replica.")


def _indivisible(candidate: Candidate, what: str, which: str) -> Finding:
    return error(keys.COUNT, candidate.request.gpus_per_replica, f"does not divide the model's {what}", f"Use {which}.")
