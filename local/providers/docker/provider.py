"""The provider's protocol for `docker:index/image:Image`."""

from importlib.metadata import version
from pathlib import Path

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from local.providers.docker import context as build_context
from local.providers.docker.builder import Build, Builder, BuildError, Credentials
from local.providers.engine_log import EngineLog
from local.providers.values import UNKNOWN_STRING, Json, from_wire, has_unknowns, to_wire

IMAGE = "docker:index/image:Image"
# Kept with the inputs: another digest is another image.
CONTEXT_DIGEST = "contextDigest"
UNSERVED = ("cacheFrom", "addHosts", "network")


class DockerProvider(provider_pb2_grpc.ResourceProviderServicer):
    """Serves one engine."""

    def __init__(self, log: EngineLog) -> None:
        self._log = log
        self._builder = Builder()
        self._directory = Path()

    def Handshake(  # noqa: N802
        self, request: provider_pb2.ProviderHandshakeRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ProviderHandshakeResponse:
        return provider_pb2.ProviderHandshakeResponse()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:  # noqa: N802
        return plugin_pb2.PluginInfo(version=version("pulumi-docker"))

    def CheckConfig(  # noqa: N802
        self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CheckResponse:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(  # noqa: N802
        self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext
    ) -> provider_pb2.DiffResponse:
        same = from_wire(request.old_inputs) == from_wire(request.news)
        return provider_pb2.DiffResponse(changes=_changes(not same))

    def Configure(  # noqa: N802
        self, request: provider_pb2.ConfigureRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ConfigureResponse:
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    def Check(self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:  # noqa: N802
        """Reads the build context, so that a changed file is a changed input."""
        if IMAGE not in request.urn:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{request.urn.split('::')[2]} needs the official plugin")
        inputs = from_wire(request.news)
        if has_unknowns(inputs):
            return provider_pb2.CheckResponse(inputs=to_wire(inputs))
        failures = []
        options: Json = inputs.get("build") or {}
        if unserved := [name for name in UNSERVED if options.get(name)]:
            failures.append(
                (
                    "build",
                    f"{', '.join(unserved)}: not served by this stand-in; leave it out or use the official plugin",
                )
            )
        build = self._build(inputs)
        if ":" not in build.name.rpartition("/")[2]:
            failures.append(("imageName", f"{build.name!r} has no tag"))
        if not build.dockerfile.is_file():
            failures.append(("build.dockerfile", f"there is no file {build.dockerfile}"))
        if not failures:
            inputs[CONTEXT_DIGEST] = build_context.digest(build.context, build.dockerfile, options)
        return provider_pb2.CheckResponse(
            inputs=to_wire(inputs),
            failures=[provider_pb2.CheckFailure(property=name, reason=reason) for name, reason in failures],
        )

    def Diff(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:  # noqa: N802
        old, new, state = from_wire(request.old_inputs), from_wire(request.news), from_wire(request.olds)
        changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        # A content of the same digest needs no new build for having moved.
        if CONTEXT_DIGEST in new and old.get(CONTEXT_DIGEST) == new[CONTEXT_DIGEST]:
            changed -= {"build"}
        if not self._builder.holds(state.get("repoDigest", "")):
            changed |= {"repoDigest"}
        return provider_pb2.DiffResponse(
            changes=_changes(bool(changed)),
            diffs=sorted(changed),
            detailedDiff={
                name: provider_pb2.PropertyDiff(kind=provider_pb2.PropertyDiff.UPDATE, inputDiff=name in new)
                for name in changed
            },
            hasDetailedDiff=True,
        )

    def Create(self, request: provider_pb2.CreateRequest, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:  # noqa: N802
        outputs = self._made(from_wire(request.properties), request.urn, context, preview=request.preview)
        identifier = "" if request.preview else outputs["repoDigest"]
        return provider_pb2.CreateResponse(id=identifier, properties=to_wire(outputs))

    def Update(self, request: provider_pb2.UpdateRequest, context: grpc.ServicerContext) -> provider_pb2.UpdateResponse:  # noqa: N802
        outputs = self._made(from_wire(request.news), request.urn, context, preview=request.preview)
        return provider_pb2.UpdateResponse(properties=to_wire(outputs))

    def Read(self, request: provider_pb2.ReadRequest, context: grpc.ServicerContext) -> provider_pb2.ReadResponse:  # noqa: N802
        """Whether the image is there is the diff's question: a refresh leaves the record as it is."""
        return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    def Delete(self, request: provider_pb2.DeleteRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:  # noqa: N802
        """The official plugin leaves what it pushed, and so is left what containerd holds: the next `up` finds it."""
        return empty_pb2.Empty()

    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:  # noqa: N802
        self._builder.cancel()
        return empty_pb2.Empty()

    def _build(self, inputs: Json) -> Build:
        options: Json = inputs.get("build") or {}
        folder = (self._directory / options.get("context", ".")).resolve()
        dockerfile = (
            (self._directory / options["dockerfile"]).resolve() if options.get("dockerfile") else folder / "Dockerfile"
        )
        return Build(
            name=inputs["imageName"],
            context=folder,
            dockerfile=dockerfile,
            arguments=options.get("args") or {},
            platform=options.get("platform", ""),
            target=options.get("target", ""),
            credentials=_credentials(inputs),
        )

    def _made(self, inputs: Json, urn: str, context: grpc.ServicerContext, *, preview: bool) -> Json:
        digest = UNKNOWN_STRING
        if not preview:
            try:
                digest = self._builder.build(self._build(inputs), lambda step: self._log.status(urn, step))
            except BuildError as error:
                context.abort(grpc.StatusCode.UNKNOWN, str(error))
        options: Json = inputs.get("build") or {}
        return {
            "imageName": inputs["imageName"],
            "baseImageName": inputs["imageName"],
            "registryServer": inputs["imageName"].partition("/")[0],
            "context": options.get("context", "."),
            "dockerfile": options.get("dockerfile", "Dockerfile"),
            "repoDigest": digest,
        }


def _credentials(inputs: Json) -> Credentials | None:
    registry: Json = inputs.get("registry") or {}
    if not registry.get("username"):
        return None
    server = registry.get("server") or inputs["imageName"].partition("/")[0]
    return Credentials(server=server, username=registry["username"], password=registry.get("password", ""))


def _changes(changed: bool) -> provider_pb2.DiffResponse.DiffChanges.ValueType:
    return provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE
