"""`helm.v3.Release`: one release of Helm as one resource.

The chart is loaded whenever the inputs are checked, in a preview too, and its version becomes an input: a chart in a folder
is installed again when it gets another version. Everything else is Helm's to do, and to keep in the cluster.
"""

from pathlib import Path
from typing import Any, NoReturn

import grpc
import yaml
from pulumi.runtime.proto import provider_pb2

from local.providers.engine_log import EngineLog
from local.providers.kubernetes import drift
from local.providers.kubernetes.helm import DEFAULT_SECONDS, Helm, HelmError, Release
from local.providers.kubernetes.protocol import diff_response, init_failed
from local.providers.values import ASSET, SIGNATURE, UNKNOWN_STRING, Json, from_wire, has_unknowns, to_wire

TYPE = "kubernetes:helm.sh/v3:Release"
FIXED = ("name", "namespace")
# What only outputs have, and what the SDK adds for its own sake.
NO_INPUTS = ("compat", "manifest", "resourceNames", "status", "valueYamlFiles")
KEYRING = Path("~/.gnupg/pubring.gpg")  # where Helm looks for the keys of charts' makers
RANDOM_DIGITS = 8


class Releases:
    """The protocol for releases, spoken by the provider of the cluster that ``helm`` works on."""

    def __init__(self, helm: Helm, namespace: str, log: EngineLog) -> None:
        self._helm = helm
        self._namespace = namespace
        self._log = log

    def check(self, request: provider_pb2.CheckRequest) -> provider_pb2.CheckResponse:
        old, new = from_wire(request.olds), from_wire(request.news)
        try:
            inputs = self._completed(request, old, new)
            if has_unknowns(inputs):
                if "version" in old:
                    inputs.setdefault("version", old["version"])
            else:
                inputs["version"] = self._helm.chart(inputs)["version"]
        except (HelmError, OSError) as error:
            reason = (
                f"{_described(new)} could not be loaded: {error}; check the chart name and repository configuration."
            )
            failure = provider_pb2.CheckFailure(property="chart", reason=reason)
            return provider_pb2.CheckResponse(inputs=request.news, failures=[failure])
        return provider_pb2.CheckResponse(inputs=to_wire(inputs))

    def diff(self, request: provider_pb2.DiffRequest) -> provider_pb2.DiffResponse:
        return diff_response(from_wire(request.old_inputs), from_wire(request.news), FIXED, delete_first=False)

    def create(self, request: provider_pb2.CreateRequest, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:
        inputs = from_wire(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(id="", properties=to_wire(_previewed(inputs)))
        before = self._find(inputs, context)
        try:
            self._helm.install(inputs)
        except HelmError as error:
            made = self._find(inputs, context)
            if made is None or made == before:  # of nothing that is there now Helm says that it has failed
                _refused(context, error)
            self._log.warning(
                request.urn,
                f'Helm release "{made.name}" was created but has a failed status. Use the `helm` command to investigate the '
                f"error, correct it, then retry. Reason: {error}",
            )
            self._failed(context, inputs, made, "was created, but failed", error)
        made = self._must_find(inputs, context)
        return provider_pb2.CreateResponse(id=_id(inputs), properties=to_wire(_outputs(inputs, made)))

    def update(self, request: provider_pb2.UpdateRequest, context: grpc.ServicerContext) -> provider_pb2.UpdateResponse:
        inputs = from_wire(request.news)
        if request.preview:
            return provider_pb2.UpdateResponse(properties=to_wire(_previewed(inputs)))
        before = self._find(inputs, context)
        try:
            self._helm.upgrade(inputs)
        except HelmError as error:
            now = self._find(inputs, context)
            if now is None or now == before:
                _refused(context, error)
            self._failed(context, inputs, now, "failed", error)
        return provider_pb2.UpdateResponse(properties=to_wire(_outputs(inputs, self._must_find(inputs, context))))

    def read(self, request: provider_pb2.ReadRequest, context: grpc.ServicerContext) -> provider_pb2.ReadResponse:
        """The release as it is; the inputs with what has become of them. An empty id says that it is gone."""
        inputs = from_wire(request.inputs)
        namespace, _, name = request.id.rpartition("/")
        place = inputs or from_wire(request.properties) or {"name": name, "namespace": namespace or self._namespace}
        found = self._find(place, context)
        if found is None:
            return provider_pb2.ReadResponse()
        now = _inputs_now(inputs, found) if inputs else _imported(found)
        return provider_pb2.ReadResponse(id=_id(now), properties=to_wire(_outputs(now, found)), inputs=to_wire(now))

    def delete(self, request: provider_pb2.DeleteRequest, context: grpc.ServicerContext) -> None:
        try:
            self._helm.uninstall(from_wire(request.old_inputs) or from_wire(request.properties))
        except HelmError as error:
            _refused(context, error)

    def _completed(self, request: provider_pb2.CheckRequest, old: Json, new: Json) -> Json:
        """The inputs of the program with the defaults, and the values of files among the others."""
        values: Json = {}
        for asset in new.get("valueYamlFiles") or []:
            values = _merged(values, _yaml_of(asset))
        values = _merged(values, new.get("values") or {})
        inputs = {key: value for key, value in new.items() if key not in NO_INPUTS and value not in (None, "", False)}
        inputs.pop("values", None)
        if values := values if new.get("allowNullValues") else _without_nulls(values):
            inputs["values"] = values
        generated = f"{request.urn.rpartition('::')[2]}-{request.randomSeed.hex()[:RANDOM_DIGITS]}"
        inputs.setdefault("name", old.get("name") or generated)
        inputs.setdefault("namespace", self._namespace)
        if not inputs.get("skipAwait"):
            inputs.setdefault("timeout", DEFAULT_SECONDS)
        if inputs.get("verify"):
            inputs.setdefault("keyring", str(KEYRING.expanduser()))
        return inputs

    def _find(self, inputs: Json, context: grpc.ServicerContext) -> Release | None:
        try:
            return self._helm.find(inputs["name"], inputs["namespace"])
        except HelmError as error:
            _refused(context, error)

    def _must_find(self, inputs: Json, context: grpc.ServicerContext) -> Release:
        found = self._find(inputs, context)
        if found is None:
            context.abort(grpc.StatusCode.ABORTED, f"{_id(inputs)} was uninstalled while it was installed")
            raise AssertionError  # abort has raised
        return found

    @staticmethod
    def _failed(context: grpc.ServicerContext, inputs: Json, release: Release, how: str, error: HelmError) -> NoReturn:
        reason = (
            f'Helm release "{_id(inputs)}" {how} to initialize completely. Use Helm CLI to investigate: failed to become '
            f"available within allocated timeout. Error: Helm Release {_id(inputs)}: {error}"
        )
        init_failed(context, _id(inputs), inputs=inputs, outputs=_outputs(inputs, release), reasons=[reason])


def _refused(context: grpc.ServicerContext, error: HelmError) -> NoReturn:
    context.abort(grpc.StatusCode.UNKNOWN, str(error))
    raise AssertionError  # abort has raised


def _id(inputs: Json) -> str:
    return f"{inputs['namespace']}/{inputs['name']}"


def _outputs(inputs: Json, release: Release) -> Json:
    status = {
        "name": release.name,
        "namespace": release.namespace,
        "revision": release.revision,
        "status": release.status,
        "chart": release.chart,
        "version": release.version,
        "appVersion": release.app_version,
    }
    return {**inputs, "version": release.version, "resourceNames": release.resource_names, "status": status}


def _previewed(inputs: Json) -> Json:
    return {**inputs, "resourceNames": UNKNOWN_STRING, "status": UNKNOWN_STRING}


def _inputs_now(inputs: Json, release: Release) -> Json:
    """The inputs with the version and the values that the release now has; what others have added is not ours."""
    live = {**inputs, "version": release.version, "values": release.values}
    return drift.inputs_now(inputs, live)


def _imported(release: Release) -> Json:
    """The inputs with which the release could have been made. Where its chart came from Helm does not keep."""
    version = release.version
    places = (f"{release.chart}-{version}", f"{release.chart}-{version}.tgz", release.chart, f"{release.chart}.tgz")
    chart = next((place for place in places if Path(place).exists()), release.chart)
    inputs = {"chart": chart, "name": release.name, "namespace": release.namespace, "version": version}
    return {**inputs, "timeout": DEFAULT_SECONDS, **({"values": release.values} if release.values else {})}


def _described(inputs: Json) -> str:
    repository = (inputs.get("repositoryOpts") or {}).get("repo")
    version = f" {inputs['version']}" if inputs.get("version") else ""
    place = f" of the repository {repository}" if repository else ""
    return f'chart "{inputs.get("chart", "")}"{version}{place}'


def _yaml_of(asset: Json) -> Json:
    """The values in a file that the program names or has made."""
    if asset.get(SIGNATURE) != ASSET:
        raise HelmError("valueYamlFiles must be assets")
    text = asset["text"] if "text" in asset else Path(asset["path"]).read_text()
    return yaml.safe_load(text) or {}


def _merged(one: Json, other: Json) -> Json:
    """``one`` with what ``other`` says instead or on top."""
    both = {
        key: _merged(one[key], value) if isinstance(one.get(key), dict) and isinstance(value, dict) else value
        for key, value in other.items()
    }
    return {**one, **both}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value if item is not None]
    return value
