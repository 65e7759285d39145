"""Where the embedded default keeps its files: one state directory per host, outside every checkout."""

import contextlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

HOME_VARIABLE = "LLM_STACK_HOME"
DEFAULT_HOME = Path("/var/lib/llm-stack")
# Sockets and mounts: a path that no reboot survives and that is short enough for a socket's name (108 bytes).
DEFAULT_RUN = Path("/run/llm-stack")


@dataclass(frozen=True)
class Paths:
    """The state directory ``home`` and the runtime directory ``run``.

    ``cluster`` and ``pulumi`` live and die together (`down`); ``cache`` (tools, downloads, Go modules), ``images`` and
    ``weights`` are kept until `down --purge`.
    """

    home: Path = field(default_factory=lambda: Path(os.environ.get(HOME_VARIABLE, DEFAULT_HOME)).resolve())
    run: Path = DEFAULT_RUN

    @property
    def cluster(self) -> Path:
        return self.home / "cluster"

    @property
    def pulumi(self) -> Path:
        return self.home / "pulumi"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    @property
    def images(self) -> Path:
        return self.home / "images"

    @property
    def weights(self) -> Path:
        return self.home / "weights"

    @property
    def owned(self) -> tuple[Path, ...]:
        """Everything in ``home`` that is ours; the rest of a directory that somebody names is theirs."""
        return (self.cluster, self.pulumi, self.cache, self.images, self.weights)

    @property
    def lock(self) -> Path:
        """Held by whoever changes what runs; outside ``run``, which `down` removes."""
        return self.run.with_name(f"{self.run.name}.lock")

    @property
    def served_models(self) -> Path:
        """What pods mount: one symbolic link per model into ``weights``."""
        return self.run / "models"

    def create(self) -> None:
        """Makes the directories; what is ours in the state directory is private to its owner."""
        for directory in self.owned:
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)
        self.run.mkdir(parents=True, exist_ok=True)
        self.run.chmod(0o711)  # pods of other users pass through to their model

    def remove(self) -> None:
        """Removes what is ours in the state directory, and the directory itself where nothing else is in it."""
        for directory in self.owned:
            shutil.rmtree(directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.home.rmdir()
