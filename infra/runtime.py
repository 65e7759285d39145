"""The server in its container: environment, probes and the paths it writes to."""

from dataclasses import dataclass

from infra.config.schema import Model
from infra.lifecycle import Lifecycle
from infra.weights import ModelSource
from infra.workload import Workload

ALIVE_PATH = "/health"
READY_PATH = "/ready"
# Everything else of the file system is read-only: temporary files, and the caches of torch and transformers, whose
# HOME lies below it.
WRITABLE_PATHS = {"tmp": "/tmp"}
# The user of the image.
USER_ID = 1000


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One server of a model, as the kubelet has to start it."""

    environment: dict[str, str]

    @classmethod
    def of(cls, *, workload: Workload, model: Model, source: ModelSource, lifecycle: Lifecycle) -> "Runtime":
        server = model.server
        environment = {
            "MODEL": source.model,
            "SERVED_MODEL_NAME": workload.served_model,
            "PORT": str(workload.port),
            # Said, not guessed: a pod that should have a GPU and has none fails at its start.
            "DEVICE": "cuda" if model.gpus.count else "cpu",
            "DTYPE": server.dtype,
            "MAX_RUNNING_REQUESTS": str(server.max_running_requests),
            "MAX_WAITING_REQUESTS": str(server.max_waiting_requests),
            "DRAIN_TIMEOUT_SECONDS": str(lifecycle.drain),
        }
        if source.revision is not None:
            environment["MODEL_REVISION"] = source.revision
        if server.max_model_len is not None:
            environment["MAX_MODEL_LEN"] = str(server.max_model_len)
        return cls(environment=environment)
