"""The server in its container: command, environment, probes and the paths it writes to."""

from dataclasses import dataclass, field

from infra.config.schema import ApiKeys, GivenKeys, Model, NoKeys, TransformersRuntime, VllmRuntime
from infra.lifecycle import Lifecycle
from infra.weights import ModelSource
from infra.workload import Workload

# Everything else of the file system is read-only: temporary files, and the caches of torch and transformers, whose
# HOME lies below it.
WRITABLE_PATHS = {"tmp": "/tmp"}
# The user of the image.
USER_ID = 1000
# vLLM's image knows no user of that number: torch asks for its name when it is imported, and these say it, and where to write.
VLLM_ENVIRONMENT = {
    "USER": "vllm",
    "HOME": "/tmp/home",
    "HF_HOME": "/tmp/huggingface",
    "VLLM_CACHE_ROOT": "/tmp/vllm",
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/torchinductor",
    "TRITON_CACHE_DIR": "/tmp/triton",
}
KEYS_PATH = "/etc/llm-stack/api-keys"
KEYS_FILE = "keys"
# vLLM reads one key from its environment.
FIRST_KEY = "first"


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One server of a model, as the kubelet has to start it.

    ``secrets`` maps environment variables to keys of the Secret with the API keys; ``keys_mounted``: whether that Secret is
    mounted at KEYS_PATH. ``command`` is the image's own where it is empty.
    """

    command: tuple[str, ...] = ()
    environment: dict[str, str]
    secrets: dict[str, str] = field(default_factory=dict)
    keys_mounted: bool = False
    alive_path: str = "/health"
    ready_path: str = "/ready"

    @classmethod
    def of(cls, *, workload: Workload, model: Model, source: ModelSource, lifecycle: Lifecycle) -> "Runtime":
        match model.runtime:
            case TransformersRuntime() as ours:
                return _transformers(workload, model, ours, source, lifecycle)
            case VllmRuntime() as vllm:
                return _vllm(workload, model, vllm, source, lifecycle)


def api_keys_secret(workload: Workload, source: ApiKeys) -> str:
    """The name of the Secret with the model's API keys.

    Keys that are given have one of their own: what is in that of a generated key is never written again.
    """
    return f"{workload.name}-{'given' if isinstance(source, GivenKeys) else 'api'}-keys"


def keys_of(text: str) -> tuple[str, ...]:
    """The keys, one per line, without empty lines and comments."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _transformers(
    workload: Workload, model: Model, ours: TransformersRuntime, source: ModelSource, lifecycle: Lifecycle
) -> Runtime:
    server, keys = model.server, not isinstance(model.api_keys, NoKeys)
    environment = {
        "MODEL": source.model,
        "SERVED_MODEL_NAME": workload.served_model,
        "PORT": str(workload.port),
        # Said, not guessed: a pod that should have a GPU and has none fails at its start.
        "DEVICE": "cuda" if model.gpus.count else "cpu",
        "DTYPE": server.dtype,
        "MAX_RUNNING_REQUESTS": str(server.max_running_requests),
        "MAX_WAITING_REQUESTS": str(server.max_waiting_requests),
        "REQUEST_TIMEOUT_SECONDS": str(lifecycle.answer),
        "DRAIN_TIMEOUT_SECONDS": str(lifecycle.drain),
        **source.environment,
    }
    if source.revision is not None:
        environment["MODEL_REVISION"] = source.revision
    if model.gpus.count > 1:
        environment["TENSOR_PARALLEL"] = str(model.gpus.count)
    if ours.enforce_eager:
        environment["CUDA_GRAPHS"] = "off"
    if ours.kv_cache_mib is not None:
        environment["KV_CACHE_MIB"] = str(ours.kv_cache_mib)
    if server.max_model_len is not None:
        environment["MAX_MODEL_LEN"] = str(server.max_model_len)
    if keys:
        environment["API_KEYS_FILE"] = f"{KEYS_PATH}/{KEYS_FILE}"
    return Runtime(environment=environment, keys_mounted=keys)


def _vllm(workload: Workload, model: Model, vllm: VllmRuntime, source: ModelSource, lifecycle: Lifecycle) -> Runtime:
    server = model.server
    options: dict[str, str | None] = {
        "--served-model-name": workload.served_model,
        "--port": str(workload.port),
        "--dtype": server.dtype,
        "--max-num-seqs": str(server.max_running_requests),
        "--max-model-len": None if server.max_model_len is None else str(server.max_model_len),
        "--revision": source.revision,
        "--tensor-parallel-size": str(model.gpus.count) if model.gpus.count > 1 else None,
        "--gpu-memory-utilization": f"{vllm.gpu_memory_utilization:g}",
        "--kv-cache-dtype": vllm.kv_cache_dtype,
        "--quantization": vllm.quantization,
        "--tool-call-parser": vllm.tool_call_parser,
        "--reasoning-parser": vllm.reasoning_parser,
        "--shutdown-timeout": str(lifecycle.drain),
    }
    flags = {
        "--enable-prefix-caching": vllm.prefix_caching,
        "--no-enable-prefix-caching": not vllm.prefix_caching,
        "--enforce-eager": vllm.enforce_eager,
        "--enable-auto-tool-choice": vllm.tool_call_parser is not None,
    }
    given = [word for name, value in options.items() if value is not None for word in (name, value)]
    return Runtime(
        command=("vllm", "serve", source.model, *given, *(name for name, on in flags.items() if on)),
        environment={**VLLM_ENVIRONMENT, **source.environment},
        secrets={} if isinstance(model.api_keys, NoKeys) else {"VLLM_API_KEY": FIRST_KEY},
        ready_path="/health",
    )
