"""Reading a model's config.json: typed values, and errors that name the key."""

from collections.abc import Mapping
from dataclasses import dataclass


class ModelConfigError(ValueError):
    """A key of config.json is missing or has no usable value."""

    def __init__(self, key: str, value: object, problem: str) -> None:
        self.key, self.value, self.problem = key, value, problem
        super().__init__(f"config.json: {key} = {value!r} {problem}")


@dataclass(frozen=True)
class ModelConfig:
    """The mapping of a config.json, or a group in it, read by key.

    A key whose value is null counts as left out, as it does for transformers.
    """

    values: Mapping[str, object]

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str) or not value:
            raise ModelConfigError(key, value, "must be a text")
        return value

    def whole(self, key: str, default: int | None = None, *, minimum: int = 1) -> int:
        """A whole number; ``default`` where the key is left out, and an error where there is none."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise ModelConfigError(key, value, "is missing: the size of the model depends on it")
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ModelConfigError(key, value, f"must be a whole number from {minimum}")
        return value

    def optional_whole(self, key: str) -> int | None:
        return self.whole(key) if self.has(key) else None

    def number(self, key: str) -> float:
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise ModelConfigError(key, value, "must be a number above 0")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ModelConfigError(key, value, "must be true or false")
        return value

    def texts(self, key: str, *, length: int) -> tuple[str, ...]:
        """A list of ``length`` texts."""
        value = self.values.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ModelConfigError(key, value, "must be a list of texts")
        if len(value) != length:
            raise ModelConfigError(key, value, f"must have one entry for each of the {length} layers, has {len(value)}")
        return tuple(value)

    def wholes(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers from 0; empty where the key is left out."""
        value = self.values.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, int) and item >= 0 for item in value):
            raise ModelConfigError(key, value, "must be a list of whole numbers")
        return tuple(value)

    def group(self, key: str) -> "ModelConfig | None":
        """The keys below ``key``; None where it is left out."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise ModelConfigError(key, value, "must be a group of keys")
        return ModelConfig(value)
