"""Answers that every kind of resource gives the engine in the same form."""

from collections.abc import Sequence
from typing import NoReturn

import grpc
from google.rpc import status_pb2
from pulumi.runtime.proto import provider_pb2

from local.providers.kubernetes.diff import Change, differences
from local.providers.values import Json, to_wire

CHANGES = {
    Change.ADD: (provider_pb2.PropertyDiff.ADD, provider_pb2.PropertyDiff.ADD_REPLACE),
    Change.DELETE: (provider_pb2.PropertyDiff.DELETE, provider_pb2.PropertyDiff.DELETE_REPLACE),
    Change.UPDATE: (provider_pb2.PropertyDiff.UPDATE, provider_pb2.PropertyDiff.UPDATE_REPLACE),
}


def diff_response(old: Json, new: Json, fixed: Sequence[str], *, delete_first: bool) -> provider_pb2.DiffResponse:
    """What differs, and that a difference below one of the paths ``fixed`` replaces the resource."""
    found = differences(old, new, fixed)
    replaces = [one.path for one in found if one.replaces]
    return provider_pb2.DiffResponse(
        changes=provider_pb2.DiffResponse.DIFF_SOME if found else provider_pb2.DiffResponse.DIFF_NONE,
        replaces=replaces,
        deleteBeforeReplace=bool(replaces) and delete_first,
        diffs=sorted({one.path.partition(".")[0].partition("[")[0] for one in found}),
        detailedDiff={
            one.path: provider_pb2.PropertyDiff(kind=CHANGES[one.change][one.replaces], inputDiff=True) for one in found
        },
        hasDetailedDiff=True,
    )


def init_failed(
    context: grpc.ServicerContext, identifier: str, *, inputs: Json, outputs: Json, reasons: Sequence[str]
) -> NoReturn:
    """The resource exists and is not up: the engine keeps it in the state, and the next update tries again."""
    failure = provider_pb2.ErrorResourceInitFailed(
        id=identifier, properties=to_wire(outputs), reasons=reasons, inputs=to_wire(inputs)
    )
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=reasons[0])
    status.details.add().Pack(failure)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode.UNKNOWN, reasons[0])
    raise AssertionError  # abort has raised
