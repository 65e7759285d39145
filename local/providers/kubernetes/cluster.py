"""The API server, by REST: only what applying, reading and deleting one object takes."""

import json
from typing import Any
from urllib.parse import quote

import urllib3
import yaml
from kubernetes import config

from local.providers.values import Json

APPLY = "application/apply-patch+yaml"  # JSON is YAML
REACH_SECONDS = 5.0
REQUEST_SECONDS = 60.0  # an admission webhook may take its 30 s


class UnreachableError(Exception):
    """The API server does not answer, or no kubeconfig leads to one."""


class ApiError(Exception):
    """The API server refused."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NoSuchKindError(Exception):
    """The API server does not serve the kind (a CustomResource before its definition)."""


class Cluster:
    """One API server, found by a kubeconfig (a file's name, its text, or the usual places) and a context."""

    def __init__(self, kubeconfig: str, context: str) -> None:
        self._kubeconfig = kubeconfig
        self._context = context or None
        self._api: Any = None
        self._kinds: dict[str, dict[str, Json]] = {}

    def reachable(self) -> str:
        """Empty when the API server answers, else why it does not."""
        try:
            self._call("GET", "/version", seconds=REACH_SECONDS)
        except UnreachableError as error:
            return f"unable to load schema information from the API server: {error}"
        except ApiError:
            pass  # it answered
        return ""

    def namespaced(self, api_version: str, kind: str) -> bool:
        return bool(self._resource(api_version, kind)["namespaced"])

    def get(self, manifest: Json) -> Json | None:
        """The live object of the manifest's kind, name and namespace."""
        try:
            return self._call("GET", self._path(manifest))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def apply(self, manifest: Json, manager: str, *, force: bool, dry_run: bool) -> Json:
        """Server-side apply; returns the object as it then is (or would be)."""
        query = f"?fieldManager={quote(manager)}&force={str(force).lower()}{'&dryRun=All' if dry_run else ''}"
        return self._call("PATCH", self._path(manifest) + query, body=manifest, content_type=APPLY)

    def delete(self, manifest: Json, propagation: str) -> None:
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        self._call("DELETE", self._path(manifest), body=body)

    def matching(self, api: str, plural: str, namespace: str, labels: Json) -> list[Json]:
        """The objects of a namespace that have the labels."""
        selector = quote(",".join(f"{key}={value}" for key, value in labels.items()))
        found = self._call("GET", f"{api}/namespaces/{quote(namespace)}/{plural}?labelSelector={selector}")
        items: list[Json] = found.get("items") or []
        return items

    def _path(self, manifest: Json) -> str:
        resource = self._resource(manifest["apiVersion"], manifest["kind"])
        where = f"/namespaces/{quote(manifest['metadata']['namespace'])}" if resource["namespaced"] else ""
        return f"{_root(manifest['apiVersion'])}{where}/{resource['name']}/{quote(manifest['metadata']['name'])}"

    def _resource(self, api_version: str, kind: str) -> Json:
        if kind not in self._kinds.get(api_version, {}):
            try:
                listed = self._call("GET", _root(api_version))["resources"]
            except ApiError as error:
                if error.status != 404:
                    raise
                listed = []
            self._kinds[api_version] = {item["kind"]: item for item in listed if "/" not in item["name"]}
        try:
            return self._kinds[api_version][kind]
        except KeyError:
            raise NoSuchKindError(f'no matches for kind "{kind}" in version "{api_version}"') from None

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        content_type: str = "application/json",
        seconds: float = REQUEST_SECONDS,
    ) -> Json:
        try:
            api = self._client()
            headers = {"Accept": "application/json", "Content-Type": content_type}
            if token := api.configuration.auth_settings().get("BearerToken"):
                headers[token["key"]] = token["value"]
            answer = api.rest_client.pool_manager.request(
                method,
                api.configuration.host + path,
                body=json.dumps(body) if body is not None else None,
                headers=headers,
                timeout=seconds,
                retries=False,
            )
        except (urllib3.exceptions.HTTPError, config.ConfigException, OSError) as error:
            raise UnreachableError(f"the API server does not answer: {error}") from error
        content: Json = (
            json.loads(answer.data) if answer.data[:1] == b"{" else {"message": answer.data.decode(errors="replace")}
        )
        if answer.status >= 400:
            raise ApiError(answer.status, content.get("reason", ""), content.get("message", ""))
        return content

    def _client(self) -> Any:
        if self._api is None:
            loaded: Any = config  # the package has no types
            if "\n" in self._kubeconfig or self._kubeconfig.startswith("{"):
                self._api = loaded.new_client_from_config_dict(yaml.safe_load(self._kubeconfig), context=self._context)
            else:
                self._api = loaded.new_client_from_config(self._kubeconfig or None, context=self._context)
        return self._api


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
