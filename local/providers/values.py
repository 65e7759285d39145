"""Property values between the engine's wire format and manifests."""

from typing import Any

from google.protobuf import json_format, struct_pb2

# The engine's signatures (sdk/go/common/resource/sig.go): a value that is not known yet, and a special object of a kind.
UNKNOWN = frozenset({
    "04da6b54-80e4-46f7-96ec-b56ff0331ba9",  # string
    "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # bool
    "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
    "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # array
    "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
})  # fmt: skip
UNKNOWN_STRING = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
ASSET = "c44067f5952c0a294b673a41bacd8c17"

Json = dict[str, Any]
"""One JSON object of Kubernetes or of the engine: its shape is known to the API server, not to this program."""


def from_wire(struct: struct_pb2.Struct) -> Json:
    """Plain values: secrets opened, whole numbers as integers."""
    value = _plain(json_format.MessageToDict(struct))
    assert isinstance(value, dict)
    return value


def to_wire(value: Json) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    json_format.ParseDict(value, struct)
    return struct


def secret(value: Any) -> Json:
    return {SIGNATURE: SECRET, "value": value}


def has_unknowns(value: Any) -> bool:
    if isinstance(value, dict):
        return any(has_unknowns(item) for item in value.values())
    if isinstance(value, list):
        return any(has_unknowns(item) for item in value)
    return isinstance(value, str) and value in UNKNOWN


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get(SIGNATURE) == SECRET:
            return _plain(value.get("value"))
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
