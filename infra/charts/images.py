"""Where the images that charts bring are pulled from."""

from dataclasses import dataclass

from infra.config.schema import Mirror
from infra.wire import JsonObject

# The Secret that the stack makes in each of its namespaces where it is given the mirror's credentials.
PULL_SECRET = "llm-stack-mirror"


@dataclass(frozen=True, kw_only=True)
class Images:
    """The publishers' registries, or a mirror that stands in for all of them and keeps the paths."""

    mirror: Mirror | None = None

    def at(self, repository: str) -> str:
        """``registry/path`` of an image, with the mirror in place of the registry."""
        return f"{self.mirror.images}/{repository.partition('/')[2]}" if self.mirror else repository

    @property
    def registry(self) -> str:
        """What charts with one key for all their images put in place of each registry; empty: nothing."""
        return self.mirror.images if self.mirror else ""

    @property
    def pull_secret_names(self) -> list[str]:
        if self.mirror is None:
            return []
        own = [PULL_SECRET] if self.mirror.registry else []
        return own + ([self.mirror.pull_secret] if self.mirror.pull_secret else [])

    @property
    def pull_secrets(self) -> list[JsonObject]:
        """As a pod's ``imagePullSecrets`` has them."""
        return [{"name": name} for name in self.pull_secret_names]
