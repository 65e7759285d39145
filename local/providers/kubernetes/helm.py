"""Helm as the stand-in uses it: Helm's own command, so that a release is one that `helm ls` shows."""

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from local.providers.values import Json

COMMAND_VARIABLE = "LLM_STACK_HELM"
POLL_SECONDS = 0.5
NOT_FOUND = "release: not found"
ENDED_BY_CANCEL = ("install", "upgrade")
OCI = "oci://"
PRIVATE = "private"  # the name of a repository that wants a password, for as long as one command runs
# Helm puts one of these before the words that its library says.
HEADINGS = ("INSTALLATION FAILED: ", "UPGRADE FAILED: ")
# Every value a string: a version stays as it is written, and `=`, an operator in a CRD, is no error (in YAML 1.1 it is).
LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

# Inputs of the resource -> options of the command, by which command they change.
CHART_SWITCHES = {"devel": "--devel", "verify": "--verify"}
WAIT_SWITCHES = {"atomic": "--atomic", "renderSubchartNotes": "--render-subchart-notes"}
BOTH_SWITCHES = {
    **WAIT_SWITCHES,
    "dependencyUpdate": "--dependency-update",
    "disableOpenapiValidation": "--disable-openapi-validation",
    "skipCrds": "--skip-crds",
    "takeOwnership": "--take-ownership",
}
INSTALL_SWITCHES = {
    **BOTH_SWITCHES,
    "createNamespace": "--create-namespace",
    "disableWebhooks": "--no-hooks",
    "replace": "--replace",
}
UPGRADE_SWITCHES = {
    **BOTH_SWITCHES,
    "cleanupOnFail": "--cleanup-on-fail",
    "disableCRDHooks": "--no-hooks",
    "forceUpdate": "--force",
    "recreatePods": "--recreate-pods",
    "resetValues": "--reset-values",
    "reuseValues": "--reuse-values",
}
# Where Helm keeps what a login tells it; for one command these are files of our own.
LOGIN_FILES = {
    "HELM_REPOSITORY_CONFIG": "repositories.yaml",
    "HELM_REPOSITORY_CACHE": "cache",
    "HELM_REGISTRY_CONFIG": "registry.json",
}
DEFAULT_SECONDS = 300  # Helm's own


class HelmError(Exception):
    """What Helm said when it failed."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release as Helm keeps it in the cluster; ``values`` are those that were given, without the chart's own."""

    name: str
    namespace: str
    revision: int
    status: str
    chart: str
    version: str
    app_version: str
    values: Json = field(repr=False)  # these two may hold what nobody should read in a log
    manifest: str = field(repr=False)

    @property
    def resource_names(self) -> dict[str, list[str]]:
        """The objects by kind (`Deployment.apps/apps/v1`), as the official provider writes them."""
        names: dict[str, set[str]] = {}
        for manifest in yaml.load_all(self.manifest, LOADER):
            if not manifest or not manifest.get("kind"):
                continue
            group, slash, _ = manifest["apiVersion"].rpartition("/")
            kind = f"{manifest['kind']}.{group}" if slash else manifest["kind"]
            metadata = manifest["metadata"]
            name = "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))
            names.setdefault(f"{kind}/{manifest['apiVersion']}", set()).add(name)
        return {kind: sorted(found) for kind, found in sorted(names.items())}


@dataclass(frozen=True, kw_only=True)
class _Login:
    """A command that makes a repository or registry known to the one that follows, and what it reads."""

    arguments: tuple[str, ...]
    password: str = field(repr=False)


class Helm:
    """Helm's command for one cluster, named as for :class:`~local.providers.kubernetes.cluster.Cluster`.

    ``settings`` are Helm's own environment variables that the provider's configuration sets. Every method takes the
    resource's inputs and raises :class:`HelmError`. An install or upgrade that runs when ``cancelled`` is set is ended the way
    Ctrl-C ends it; what looks at the cluster afterwards is not.
    """

    def __init__(self, kubeconfig: str, context: str, settings: Mapping[str, str], cancelled: threading.Event) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._settings = settings
        self._cancelled = cancelled

    def chart(self, inputs: Json) -> Json:
        """What the chart says of itself (`Chart.yaml`), once it has everything that it depends on."""
        located = _located(inputs)
        described = yaml.load(self._run("show", "chart", *located, *_repository(inputs), login=_login(inputs)), LOADER)
        assert isinstance(described, dict)
        if described.get("dependencies") and Path(located[0]).is_absolute():
            if inputs.get("dependencyUpdate"):
                self._run("dependency", "update", located[0])
            listed = [line.split() for line in self._run("dependency", "list", located[0]).splitlines()[1:]]
            if missing := [words[0] for words in listed if words and words[-1] == "missing"]:
                names = ", ".join(missing)
                raise HelmError(f"found in Chart.yaml, but missing in charts/ directory: {names}")
        return described

    def install(self, inputs: Json) -> None:
        self._apply("install", inputs, _switches(inputs, INSTALL_SWITCHES))

    def upgrade(self, inputs: Json) -> None:
        chart = _located(inputs)[0]
        if inputs.get("lint") and Path(chart).is_absolute():
            self._run("lint", chart, "--values=-", stdin=_values(inputs))
        history = f"--history-max={inputs.get('maxHistory', 0)}"
        self._apply("upgrade", inputs, [history, *_switches(inputs, UPGRADE_SWITCHES)])

    def uninstall(self, inputs: Json) -> None:
        """Returns too where there is nothing (any more)."""
        waits = inputs.get("atomic") or not inputs.get("skipAwait")
        wait = ["--wait", _timeout(inputs)] if waits else []
        self._run("uninstall", inputs["name"], *_place(inputs), "--ignore-not-found", *wait)

    def find(self, name: str, namespace: str) -> Release | None:
        """The latest revision of a release."""
        place = [name, *_place({"namespace": namespace}), "--output=json"]
        try:
            facts = json.loads(self._run("get", "metadata", *place))
            content = json.loads(self._run("status", *place))
        except HelmError as error:
            if NOT_FOUND in str(error):
                return None
            raise
        return Release(
            name=facts["name"],
            namespace=facts["namespace"],
            revision=facts["revision"],
            status=facts["status"],
            chart=facts["chart"],
            version=facts["version"],
            app_version=facts.get("appVersion", ""),
            values=content.get("config") or {},
            manifest=content.get("manifest", ""),
        )

    def _apply(self, verb: str, inputs: Json, switches: list[str]) -> None:
        wait = [] if inputs.get("skipAwait") else ["--wait", *_switches(inputs, {"waitForJobs": "--wait-for-jobs"})]
        self._run(
            verb,
            inputs["name"],
            *_located(inputs),
            *_repository(inputs),
            *_place(inputs),
            *switches,
            *wait,
            *_options(inputs, {"description": "--description", "postrender": "--post-renderer"}),
            _timeout(inputs),
            "--values=-",
            stdin=_values(inputs),
            login=_login(inputs),
        )

    def _run(self, *arguments: str, stdin: str = "", login: _Login | None = None) -> str:
        """Standard output. Values and passwords come on standard input, where no list of processes shows them."""
        # In a folder with nothing in it no file can be taken for the chart of a repository.
        with tempfile.TemporaryDirectory(prefix="llm-stack-helm-") as scratch:
            environment = {**os.environ, **self._settings}
            if login is not None:
                environment |= {name: f"{scratch}/{file}" for name, file in LOGIN_FILES.items()}
                self._execute(login.arguments, scratch, environment, login.password)
            return self._execute([*arguments, *self._cluster(Path(scratch))], scratch, environment, stdin)

    def _execute(self, arguments: Sequence[str], scratch: str, environment: Mapping[str, str], stdin: str) -> str:
        if COMMAND_VARIABLE not in environment:
            raise HelmError(f'{COMMAND_VARIABLE} is not set; run: eval "$(python3 -m local env)"')
        with subprocess.Popen(
            [environment[COMMAND_VARIABLE], *arguments], cwd=scratch, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            output, errors = self._communicate(process, stdin, ends=arguments[0] in ENDED_BY_CANCEL)
        if process.returncode != 0:
            said = (errors.rpartition("Error: ")[2] or output).strip()
            for heading in HEADINGS:
                said = said.removeprefix(heading)
            raise HelmError(said)
        return output

    def _communicate(self, process: subprocess.Popen[str], stdin: str, *, ends: bool) -> tuple[str, str]:
        rest: str | None = stdin
        while True:
            try:
                return process.communicate(rest, timeout=POLL_SECONDS)
            except subprocess.TimeoutExpired:
                rest = None  # the first call has taken it
                if ends and self._cancelled.is_set():
                    process.terminate()  # Helm writes down that the release has failed, and ends

    def _cluster(self, scratch: Path) -> list[str]:
        file = self._kubeconfig
        if "\n" in file or file.startswith("{"):
            written = scratch / "kubeconfig"
            written.touch(mode=0o600)
            written.write_text(file)
            file = str(written)
        return _options({"file": file, "context": self._context}, {"file": "--kubeconfig", "context": "--kube-context"})


def _located(inputs: Json) -> list[str]:
    """The chart, and the repository that it is looked for in: a path, an `oci://` address, or a name."""
    chart = str(inputs.get("chart", "")).strip()
    repository = str((inputs.get("repositoryOpts") or {}).get("repo", ""))
    if chart.startswith(OCI):
        return [chart]
    if urlsplit(repository).scheme:
        return [f"{PRIVATE}/{chart}"] if _login(inputs) else [chart, f"--repo={repository}"]
    if repository and "/" not in chart:  # a repository that the user's Helm knows by a name
        chart = f"{repository}/{chart}"
    path = Path(chart)
    if path.is_file() or (path / "Chart.yaml").is_file() or chart.startswith("."):
        return [str(path.absolute())]
    return [chart]


def _repository(inputs: Json) -> list[str]:
    """How the chart is got from where it lies."""
    given = _options(inputs, {"version": "--version", "keyring": "--keyring"})
    return [*_switches(inputs, CHART_SWITCHES), *given, *_certificates(inputs)]


def _certificates(inputs: Json) -> list[str]:
    options = inputs.get("repositoryOpts") or {}
    names = {"caFile": "--ca-file", "certFile": "--cert-file", "keyFile": "--key-file"}
    return _options({key: Path(options[key]).absolute() for key in names if options.get(key)}, names)


def _login(inputs: Json) -> _Login | None:
    """How Helm is told the password of the repository, where there is one."""
    options = inputs.get("repositoryOpts") or {}
    chart, repository = str(inputs.get("chart", "")).strip(), str(options.get("repo", ""))
    if not options.get("password"):
        return None
    if chart.startswith(OCI):
        target = ["registry", "login", urlsplit(chart).netloc]
    elif urlsplit(repository).scheme:
        target = ["repo", "add", PRIVATE, repository]
    else:
        return None
    user = f"--username={options.get('username', '')}"
    return _Login(
        arguments=(*target, user, "--password-stdin", *_certificates(inputs)), password=str(options["password"])
    )


def _place(inputs: Json) -> list[str]:
    return [f"--namespace={inputs['namespace']}"]


def _timeout(inputs: Json) -> str:
    return f"--timeout={inputs.get('timeout') or DEFAULT_SECONDS}s"


def _values(inputs: Json) -> str:
    return json.dumps(inputs.get("values") or {})  # JSON is YAML


def _switches(inputs: Json, names: Mapping[str, str]) -> list[str]:
    return [option for key, option in names.items() if inputs.get(key)]


def _options(inputs: Json, names: Mapping[str, str]) -> list[str]:
    return [f"{option}={inputs[key]}" for key, option in names.items() if inputs.get(key)]
