"""The provider's protocol: check, diff, create, read, update and delete one object, or one release of Helm."""

import copy
import hashlib
import json
import os
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import NoReturn

import grpc
from google.protobuf import empty_pb2, struct_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from local.providers.engine_log import EngineLog
from local.providers.kubernetes import drift, wait
from local.providers.kubernetes.cluster import ApiError, Cluster, NoSuchKindError, UnreachableError
from local.providers.kubernetes.helm import Helm
from local.providers.kubernetes.kinds import CLUSTER_SCOPED, EVERY_KIND, kind_of
from local.providers.kubernetes.protocol import diff_response, init_failed
from local.providers.kubernetes.release import TYPE as RELEASE
from local.providers.kubernetes.release import Releases
from local.providers.values import UNKNOWN_STRING, Json, from_wire, has_unknowns, secret, to_wire

AUTONAMED = "pulumi.com/autonamed"
PROPAGATION = "pulumi.com/deletionPropagationPolicy"
UNSERVED_TYPES = ("kubernetes:helm.sh/", "kubernetes:yaml", "kubernetes:kustomize")  # but for releases
RANDOM_DIGITS = 8
# Changing these leads to another cluster: everything there would have to be made anew.
CLUSTER_KEYS = ("clusterIdentifier",)
# Kinds whose content the official provider replaces unless it is told otherwise, with the option and the variable that do.
MUTABLE_KINDS = {
    "ConfigMap": ("enableConfigMapMutable", "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE"),
    "Secret": ("enableSecretMutable", "PULUMI_K8S_ENABLE_SECRET_MUTABLE"),
}
CONTENT = ("data", "binaryData", "stringData")
DELETE_UNREACHABLE = "PULUMI_K8S_DELETE_UNREACHABLE"
FIELD_MANAGER = "__fieldManager"
INITIAL_VERSION = "__initialApiVersion"
# helmReleaseSettings of the provider -> the variable of Helm that it sets, and that of Pulumi that sets it too.
HELM_SETTINGS = {
    "driver": ("HELM_DRIVER", "PULUMI_K8S_HELM_DRIVER"),
    "pluginsPath": ("HELM_PLUGINS", "PULUMI_K8S_HELM_PLUGINS_PATH"),
    "registryConfigPath": ("HELM_REGISTRY_CONFIG", "PULUMI_K8S_HELM_REGISTRY_CONFIG_PATH"),
    "repositoryCache": ("HELM_REPOSITORY_CACHE", "PULUMI_K8S_HELM_REPOSITORY_CACHE"),
    "repositoryConfigPath": ("HELM_REPOSITORY_CONFIG", "PULUMI_K8S_HELM_REPOSITORY_CONFIG_PATH"),
}
EXISTS = (
    "resource {id} was not successfully created by the Kubernetes API server: it already exists. Either give it the alias of "
    "the resource that owns it, delete it first (deleteBeforeReplace), change it with a Patch resource, take it over with "
    "`pulumi import`, or set upsertExistingObjects."
)


class KubernetesProvider(provider_pb2_grpc.ResourceProviderServicer):
    """Serves one engine."""

    def __init__(self, log: EngineLog) -> None:
        self._log = log
        self._cancelled = threading.Event()
        self._cluster = Cluster("", "")
        self._releases = Releases(Helm("", "", {}, self._cancelled), "default", log)
        self._namespace = "default"
        self._unreachable: str | None = None
        self._delete_unreachable = False
        self._upsert = False
        self._mutable: set[str] = set()

    def Handshake(  # noqa: N802
        self, request: provider_pb2.ProviderHandshakeRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ProviderHandshakeResponse:
        return provider_pb2.ProviderHandshakeResponse()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:  # noqa: N802
        return plugin_pb2.PluginInfo(version=version("pulumi-kubernetes"))

    def GetSchema(  # noqa: N802
        self, request: provider_pb2.GetSchemaRequest, context: grpc.ServicerContext
    ) -> provider_pb2.GetSchemaResponse:
        return provider_pb2.GetSchemaResponse(
            schema=f'{{"name": "kubernetes", "version": "{version("pulumi-kubernetes")}"}}'
        )

    def CheckConfig(  # noqa: N802
        self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CheckResponse:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(  # noqa: N802
        self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext
    ) -> provider_pb2.DiffResponse:
        old, new = from_wire(request.old_inputs), from_wire(request.news)
        identified = "clusterIdentifier" in old and "clusterIdentifier" in new
        return diff_response(
            old, new, CLUSTER_KEYS if identified else (*CLUSTER_KEYS, "context", "kubeconfig"), delete_first=False
        )

    def Configure(  # noqa: N802
        self, request: provider_pb2.ConfigureRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ConfigureResponse:
        settings = from_wire(request.args)
        kubeconfig, kube_context = settings.get("kubeconfig", ""), settings.get("context", "")
        if has_unknowns(settings):
            self._unreachable = "its configuration is not known yet"
            kubeconfig = kube_context = ""
        else:
            self._cluster = Cluster(kubeconfig, kube_context)
            self._unreachable = self._cluster.reachable()
        self._namespace = settings.get("namespace") or "default"
        helm = Helm(kubeconfig, kube_context, _helm_settings(settings), self._cancelled)
        self._releases = Releases(helm, self._namespace, self._log)
        self._delete_unreachable = _switch(settings, "deleteUnreachable", DELETE_UNREACHABLE)
        self._upsert = _switch(settings, "upsertExistingObjects", "PULUMI_K8S_UPSERT_EXISTING_OBJECTS")
        self._mutable = {kind for kind, switch in MUTABLE_KINDS.items() if _switch(settings, *switch)}
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    def Check(self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:  # noqa: N802
        """Gives the object a name and a namespace where the program gave none."""
        kind = _type(request.urn)
        if kind == RELEASE:
            return self._releases.check(request)
        if kind.startswith(UNSERVED_TYPES) or kind.endswith("Patch"):
            context.abort(
                grpc.StatusCode.UNIMPLEMENTED, f"{kind} needs the official plugin: this stand-in does not serve it"
            )
        old, new = from_wire(request.olds), from_wire(request.news)
        metadata = new.setdefault("metadata", {})
        if "name" not in metadata and "generateName" not in metadata:
            before = old.get("metadata", {})
            if AUTONAMED in (before.get("annotations") or {}):
                metadata["name"] = before["name"]
            else:
                metadata["name"] = f"{request.urn.rpartition('::')[2]}-{request.randomSeed.hex()[:RANDOM_DIGITS]}"
            metadata["annotations"] = {**(metadata.get("annotations") or {}), AUTONAMED: "true"}
        if "namespace" not in metadata and self._namespaced(new):
            metadata["namespace"] = self._namespace
        return provider_pb2.CheckResponse(inputs=to_wire(new))

    def Diff(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:  # noqa: N802
        if _type(request.urn) == RELEASE:
            return self._releases.diff(request)
        old, new = from_wire(request.old_inputs), from_wire(request.news)
        autonamed = AUTONAMED in (new["metadata"].get("annotations") or {})
        same_place = old["metadata"] and all(
            old["metadata"].get(key) == new["metadata"].get(key) for key in ("name", "namespace")
        )
        fixed = (*EVERY_KIND, *self._fixed(new["kind"], old))
        return diff_response(old, new, fixed, delete_first=bool(same_place and not autonamed))

    def _fixed(self, kind: str, old: Json) -> tuple[str, ...]:
        fixed = kind_of(kind).fixed
        open_to_change = kind in self._mutable and not old.get("immutable")
        return tuple(path for path in fixed if path not in CONTENT) if open_to_change else fixed

    def Create(self, request: provider_pb2.CreateRequest, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:  # noqa: N802
        if _type(request.urn) == RELEASE:
            if not request.preview:
                self._need_cluster(context)
            return self._releases.create(request, context)
        manifest = from_wire(request.properties)
        if request.preview:
            properties = self._previewed(manifest, request.urn, context, create=True)
            return provider_pb2.CreateResponse(id="", properties=properties)
        self._need_cluster(context)
        manager = _manager(request.urn)
        with _Refusals(context):
            before = self._cluster.get(manifest)
            if before is not None and not self._upsert and not _owns(before, manager):
                context.abort(grpc.StatusCode.ALREADY_EXISTS, EXISTS.format(id=_id(manifest)))
            applied = self._cluster.apply(manifest, manager, force=before is not None, dry_run=False)
        outputs = self._ready(applied, manifest, request.urn, request.timeout, context)
        return provider_pb2.CreateResponse(id=_id(applied), properties=to_wire(outputs))

    def Update(self, request: provider_pb2.UpdateRequest, context: grpc.ServicerContext) -> provider_pb2.UpdateResponse:  # noqa: N802
        if _type(request.urn) == RELEASE:
            if not request.preview:
                self._need_cluster(context)
            return self._releases.update(request, context)
        manifest = from_wire(request.news)
        if request.preview:
            return provider_pb2.UpdateResponse(properties=self._previewed(manifest, request.urn, context, create=False))
        self._need_cluster(context)
        with _Refusals(context):
            # What the state says is ours is taken back from whoever changed it by hand.
            applied = self._cluster.apply(manifest, _manager(request.urn), force=True, dry_run=False)
        outputs = self._ready(applied, manifest, request.urn, request.timeout, context)
        return provider_pb2.UpdateResponse(properties=to_wire(outputs))

    def Read(self, request: provider_pb2.ReadRequest, context: grpc.ServicerContext) -> provider_pb2.ReadResponse:  # noqa: N802
        """The live object; the inputs with what has become of them. An empty id says that the object is gone."""
        if self._unreachable and self._delete_unreachable:
            return provider_pb2.ReadResponse()
        self._need_cluster(context)
        if _type(request.urn) == RELEASE:
            return self._releases.read(request, context)
        inputs, state = from_wire(request.inputs), from_wire(request.properties)
        named = inputs or state or _named(request.id, request.urn)
        with _Refusals(context):
            live = self._find(named)
        if live is None:
            return provider_pb2.ReadResponse()
        now = drift.inputs_now(inputs, live) if inputs else drift.imported(live)
        return provider_pb2.ReadResponse(
            id=_id(live), properties=to_wire(_outputs(live, _manager(request.urn))), inputs=to_wire(now)
        )

    def Delete(self, request: provider_pb2.DeleteRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:  # noqa: N802
        manifest = from_wire(request.old_inputs) or from_wire(request.properties)
        if self._unreachable and self._delete_unreachable:
            self._log.warning(request.urn, "the cluster is unreachable: the object is only dropped from the state")
            return empty_pb2.Empty()
        self._need_cluster(context, f"To drop it from the state only, set {DELETE_UNREACHABLE}=true.")
        if _type(request.urn) == RELEASE:
            self._releases.delete(request, context)
            return empty_pb2.Empty()
        propagation = (manifest["metadata"].get("annotations") or {}).get(PROPAGATION, "Foreground")
        with _Refusals(context):
            try:
                self._cluster.delete(manifest, propagation)
                wait.until_gone(self._cluster, manifest, request.timeout, self._cancelled, self._reporter(request.urn))
            except NoSuchKindError:
                pass  # its definition is gone, and every object went with it
            except ApiError as error:
                if error.status != 404:
                    raise
            except wait.NotReadyError as error:
                context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"{_id(manifest)}: {error}")
        return empty_pb2.Empty()

    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:  # noqa: N802
        self._cancelled.set()
        return empty_pb2.Empty()

    def _namespaced(self, manifest: Json) -> bool:
        if manifest["kind"] in CLUSTER_SCOPED:
            return False
        try:
            return bool(self._unreachable) or self._cluster.namespaced(manifest["apiVersion"], manifest["kind"])
        except (NoSuchKindError, UnreachableError, ApiError):
            return True  # nearly every kind is; a CustomResource before its definition will tell when it is made

    def _find(self, manifest: Json) -> Json | None:
        """The live object; None too where its kind is not defined."""
        try:
            return self._cluster.get(manifest)
        except NoSuchKindError:
            return None

    def _previewed(self, manifest: Json, urn: str, context: grpc.ServicerContext, *, create: bool) -> struct_pb2.Struct:
        """What the API server says that it would make, where it can be asked; what it refuses stops the preview."""
        outputs = manifest
        if not self._unreachable and not has_unknowns(manifest):
            try:
                # Of what is going to be replaced it would say whether the old object can become the new one.
                if not (create and self._cluster.get(manifest)):
                    outputs = self._cluster.apply(manifest, _manager(urn), force=True, dry_run=True)
            except (NoSuchKindError, UnreachableError):
                pass
            except ApiError as error:
                if error.status != 404:  # its namespace may be part of the same update
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        outputs = copy.deepcopy(outputs)
        # What the server will decide is not known yet.
        outputs["status"] = UNKNOWN_STRING
        outputs["metadata"].pop("managedFields", None)
        for decided in ("uid", "resourceVersion", "creationTimestamp"):
            outputs["metadata"].pop(decided, None)
        return to_wire(outputs)

    def _ready(self, applied: Json, manifest: Json, urn: str, seconds: float, context: grpc.ServicerContext) -> Json:
        try:
            live = wait.until_ready(self._cluster, applied, seconds, self._cancelled, self._reporter(urn))
        except wait.NotReadyError as error:
            self._init_failed(error.live, manifest, error.reasons, urn, context)
        except (UnreachableError, ApiError) as error:
            self._init_failed(applied, manifest, [str(error)], urn, context)
        return _outputs(live, _manager(urn))

    @staticmethod
    def _init_failed(
        live: Json, manifest: Json, reasons: list[str], urn: str, context: grpc.ServicerContext
    ) -> NoReturn:
        message = f"{_id(live)} failed to fully initialize or become live: {reasons[0]}"
        outputs = _outputs(live, _manager(urn))
        init_failed(context, _id(live), inputs=manifest, outputs=outputs, reasons=[message, *reasons[1:]])

    def _need_cluster(self, context: grpc.ServicerContext, remedy: str = "") -> None:
        if self._unreachable:
            message = f"configured Kubernetes cluster is unreachable: {self._unreachable}. {remedy}".rstrip()
            context.abort(grpc.StatusCode.UNAVAILABLE, message)

    def _reporter(self, urn: str) -> Callable[[str], None]:
        return lambda message: self._log.status(urn, message)


class _Refusals:
    """Turns what the API server says into errors of the protocol."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UnreachableError):
            self._context.abort(grpc.StatusCode.UNAVAILABLE, f"configured Kubernetes cluster is unreachable: {error}")
        if isinstance(error, ApiError | NoSuchKindError):
            self._context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


def _type(urn: str) -> str:
    """The type of the resource itself, without those of its parents."""
    return urn.split("::")[2].rpartition("$")[2]


def _helm_settings(settings: Json) -> dict[str, str]:
    """The variables for Helm that the provider's configuration sets."""
    given = settings.get("helmReleaseSettings") or {}
    given = json.loads(given) if isinstance(given, str) else given
    found = {ours: given.get(key) or os.environ.get(theirs) for key, (ours, theirs) in HELM_SETTINGS.items()}
    return {variable: value for variable, value in found.items() if value}


def _switch(settings: Json, key: str, variable: str) -> bool:
    """An option of the provider, which an environment variable sets where the program does not."""
    return str(settings.get(key, os.environ.get(variable, ""))).lower() == "true"


def _manager(urn: str) -> str:
    """One field manager per resource, the same whenever the same program makes it: an interrupted create can go on."""
    return f"pulumi-kubernetes-{hashlib.sha256(urn.encode()).hexdigest()[:RANDOM_DIGITS]}"


def _owns(live: Json, manager: str) -> bool:
    return any(entry["manager"] == manager for entry in live["metadata"].get("managedFields") or [])


def _outputs(live: Json, manager: str) -> Json:
    outputs = {**copy.deepcopy(live), FIELD_MANAGER: manager, INITIAL_VERSION: live["apiVersion"]}
    outputs["metadata"].pop("managedFields", None)
    if live["kind"] == "Secret":
        for key in ("data", "stringData"):
            if key in outputs:
                outputs[key] = secret(outputs[key])
    return outputs


def _id(manifest: Json) -> str:
    metadata = manifest["metadata"]
    return "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))


def _named(identifier: str, urn: str) -> Json:
    """The object that an import names: its kind by the type, its place by the id."""
    package, _, kind = _type(urn).rpartition(":")
    api_version = package.partition(":")[2].removeprefix("core/")
    namespace, _, name = identifier.rpartition("/")
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
    }
