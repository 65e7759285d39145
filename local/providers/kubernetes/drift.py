"""What the cluster has made of our inputs: the values that we set, as they are now.

Fields that the server or somebody else added are not ours and never show; fields of ours that changed or went do.
"""

from base64 import b64decode, b64encode
from decimal import Decimal, InvalidOperation
from typing import Any

from local.providers.values import Json

# Of a live object, what nobody writes (the server does).
SERVER_METADATA = (
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
    "deletionTimestamp",
)
SUFFIXES: dict[str, int | Decimal] = {
    "": 1, "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "P": 10**15, "E": 10**18, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
}  # fmt: skip


def inputs_now(inputs: Json, live: Json) -> Json:
    """``inputs`` with the values of ``live``."""
    if live.get("kind") == "Secret":
        live = {**live, "stringData": {key: _text(value) for key, value in (live.get("data") or {}).items()}}
        if "data" in inputs and "stringData" in inputs:
            live["data"] = {key: value for key, value in (live.get("data") or {}).items() if key in inputs["data"]}
    now = _now(inputs, live)
    assert isinstance(now, dict)
    return now


def imported(live: Json) -> Json:
    """The inputs with which an object that nobody declared could have been made."""
    metadata = {key: value for key, value in live["metadata"].items() if key not in SERVER_METADATA}
    return {**{key: value for key, value in live.items() if key != "status"}, "metadata": metadata}


def _now(wanted: Any, live: Any) -> Any:
    if isinstance(wanted, dict) and isinstance(live, dict):
        return {
            key: _now(value, live[key]) if key in live else value
            for key, value in wanted.items()
            if key in live or _empty(value)
        }
    if isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        return [_now(*pair) for pair in zip(wanted, live, strict=True)]
    return wanted if _same_quantity(wanted, live) else live


def _empty(value: Any) -> bool:
    """The server leaves such values out."""
    return value is None or value in ("", 0, False, [], {})


def _same_quantity(one: Any, other: Any) -> bool:
    if one == other:
        return True
    first, second = _quantity(one), _quantity(other)
    return first is not None and first == second


def _quantity(value: Any) -> Decimal | None:
    """Kubernetes' numbers with a unit: `1000m` is `1`."""
    text = str(value)
    digits = text.rstrip("numkMGTPEi")
    try:
        return Decimal(digits) * SUFFIXES[text[len(digits) :]]
    except (InvalidOperation, KeyError):
        return None


def _text(encoded: str) -> str:
    content = b64decode(encoded)
    try:
        return content.decode()
    except UnicodeDecodeError:
        return b64encode(content).decode()
