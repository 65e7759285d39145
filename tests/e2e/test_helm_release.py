"""`helm.v3.Release` as the stand-in serves it does what the official plugin does, with Helm's own releases in the cluster."""

import contextlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from pulumi.automation.errors import CommandError

from local.cluster.command import Kubectl
from local.cluster.layout import PAUSE_IMAGE
from tests.e2e.conftest import NAMESPACE, Project, Resources
from tests.e2e.test_kubernetes_stand_in import AWAY, NAMESPACE_RESOURCE, provider_of, resource

pytestmark = pytest.mark.e2e

CHART = Path(__file__).parent / "chart"
NOWHERE = "registry.invalid/none:1"
# Said with every change that heals: with no values at all Helm takes those of the last revision.
GOOD = {"image": PAUSE_IMAGE}
Helm = Callable[..., str]


@pytest.fixture
def helm(environment: dict[str, str], kubectl: Kubectl) -> Iterator[Helm]:
    """Helm as somebody at a terminal uses it; the chart's CRD, which Helm never removes, goes in the end."""

    def run(*arguments: str) -> str:
        command = [environment["LLM_STACK_HELM"], f"--kubeconfig={kubectl.kubeconfig}", "-n", NAMESPACE, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    yield run
    kubectl("delete", "crd", "gadgets.chart.test", "--ignore-not-found")


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A copy of the chart that a test may change."""
    return shutil.copytree(CHART, tmp_path / "sample")


def set_version(chart: Path, version: str) -> None:
    facts = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump({**facts, "version": version}))


def release(chart: str | Path = CHART, name: str = "sample", **properties: Any) -> dict[str, Any]:
    """The resource `r`; ``properties`` are its inputs. Only where a test is about hooks does it wait for them."""
    given = {
        "chart": str(chart),
        "name": name,
        "namespace": NAMESPACE,
        "createNamespace": True,
        "timeout": 60,
        "disableWebhooks": True,
    }
    return {"type": "kubernetes:helm.sh/v3:Release", "name": "r", "properties": {**given, **properties}}


def message(kubectl: Kubectl, name: str = "sample") -> str:
    return kubectl.jsonpath(f"configmap/{name}", "{.data.message}", NAMESPACE)


def test_life_of_a_release(project: Project, kubectl: Kubectl, helm: Helm, chart: Path) -> None:
    first = [release(chart, disableWebhooks=False)]
    assert project.preview(first) == {"create": 2}
    assert project.up(first) == {"create": 2}
    state = project.state_of("r")
    assert state["id"] == f"{NAMESPACE}/sample"
    assert state["outputs"]["status"] == {
        "name": "sample", "namespace": NAMESPACE, "revision": 1, "status": "deployed", "chart": "sample",
        "version": "0.1.0", "appVersion": "1.0",
    }  # fmt: skip
    assert state["outputs"]["resourceNames"] == {
        "ConfigMap/v1": ["sample"], "Secret/v1": ["sample"], "Deployment.apps/apps/v1": [f"{NAMESPACE}/sample"],
    }  # fmt: skip
    assert [one["name"] for one in json.loads(helm("ls", "-o", "json"))] == ["sample"]
    assert kubectl.succeeds("get", "secret/sh.helm.release.v1.sample.v1", "-n", NAMESPACE)
    assert kubectl.jsonpath("deployment/sample", "{.status.availableReplicas}", NAMESPACE) == "1"
    assert kubectl.jsonpath("job/sample-hook", "{.status.succeeded}", NAMESPACE) == "1"
    assert project.up(first) == {}

    # Other values: a revision of the same release.
    changed = [release(chart, values={"message": "changed"}, disableWebhooks=False)]
    assert project.preview(changed) == {"update": 1}
    assert project.differences == {"values"}
    assert project.up(changed) == {"update": 1}
    assert message(kubectl) == "changed"
    assert project.state_of("r")["outputs"]["status"]["revision"] == 2

    # A chart in a folder counts as changed when its version does.
    (chart / "templates" / "more.yaml").write_text(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: {{ .Release.Name }}-more}}"
    )
    assert project.preview(changed) == {}
    set_version(chart, "0.2.0")
    assert project.up(changed) == {"update": 1}
    assert project.differences == {"version"}
    assert kubectl.succeeds("get", "configmap/sample-more", "-n", NAMESPACE)

    # What somebody changes with Helm is seen by refresh, and taken back by the next update.
    assert project.refresh() == {}
    helm("upgrade", "sample", str(chart), "--set=message=by hand,added=theirs")
    assert project.preview(changed) == {}
    assert project.refresh() == {"update": 1}
    assert project.up(changed) == {"update": 1}
    assert message(kubectl) == "changed"

    # Another name is another release.
    renamed = [release(chart, "other", values={"message": "changed"})]
    assert project.up(renamed) == {"replace": 1}
    assert [one["name"] for one in json.loads(helm("ls", "-o", "json"))] == ["other"]

    # Uninstalled by hand: refresh drops it, the next update installs it.
    helm("uninstall", "other", "--wait")
    assert project.refresh() == {"delete": 1}
    assert project.up(renamed) == {"create": 1}

    project.destroy()
    assert json.loads(helm("ls", "-a", "-o", "json")) == []
    assert not kubectl.succeeds("get", "deployment/other", "-n", NAMESPACE)
    assert kubectl.succeeds("get", "crd/gadgets.chart.test")  # Helm's rule: a CRD of crds/ stays


def test_failed_install_is_kept_and_the_next_good_update_heals(project: Project, helm: Helm) -> None:
    with pytest.raises(CommandError):
        project.up([release(values={"image": NOWHERE}, timeout=5)])
    for words in (
        f'Helm release "{NAMESPACE}/sample" was created, but failed to initialize completely. Use Helm CLI to investigate',
        "was created but has a failed status",
        "context deadline exceeded",
    ):
        assert words in project.messages
    assert project.state_of("r")["outputs"]["status"]["status"] == "failed"
    assert project.up([release(values=GOOD)]) == {"update": 1}
    assert json.loads(helm("status", "sample", "-o", "json"))["info"]["status"] == "deployed"


def test_failed_upgrade_leaves_the_pods_that_serve(project: Project, kubectl: Kubectl, helm: Helm) -> None:
    project.up([release()])
    with pytest.raises(CommandError):
        project.up([release(values={"image": NOWHERE, "message": "new"}, timeout=5)])
    assert f'Helm release "{NAMESPACE}/sample" failed to initialize completely' in project.messages
    assert kubectl.jsonpath("deployment/sample", "{.status.availableReplicas}", NAMESPACE) == "1"
    assert project.state_of("r")["outputs"]["status"]["revision"] == 2
    assert project.up([release(values={"message": "new"})]) == {"update": 1}
    assert message(kubectl) == "new"


def test_cancelled_install_is_kept_and_the_next_update_heals(project: Project, helm: Helm) -> None:
    with ThreadPoolExecutor() as pool:
        update = pool.submit(project.up, [release(values={"image": NOWHERE})])
        while not update.done() and not json.loads(helm("ls", "--pending", "-o", "json")):
            time.sleep(0.1)
        os.kill(engine(), signal.SIGINT)
        with pytest.raises(CommandError):
            update.result()
    assert project.state_of("r")["outputs"]["status"]["status"] == "failed"
    assert project.up([release(values=GOOD)]) == {"update": 1}


def engine() -> int:
    """The process of the `pulumi` that this one has started."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended while we looked
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            if name == "pulumi" and int(rest.split()[1]) == os.getpid():
                return int(entry.name)
    raise ProcessLookupError("pulumi does not run")


def test_atomic_install_that_fails_leaves_nothing(project: Project, kubectl: Kubectl, helm: Helm) -> None:
    with pytest.raises(CommandError):
        project.up([release(values={"image": NOWHERE}, timeout=5, atomic=True)])
    assert "context deadline exceeded" in project.messages
    assert json.loads(helm("ls", "-a", "-o", "json")) == []
    assert project.up([release(atomic=True)])["create"] == 1


def test_atomic_upgrade_that_fails_is_rolled_back(project: Project, kubectl: Kubectl, helm: Helm) -> None:
    project.up([release(values={"message": "good"})])
    with pytest.raises(CommandError):
        project.up([release(values={"message": "bad", "image": NOWHERE}, timeout=5, atomic=True)])
    assert message(kubectl) == "good"
    assert project.up([release(values={"message": "better"}, atomic=True)]) == {"update": 1}
    assert message(kubectl) == "better"


def test_release_of_somebody_else_is_not_taken_over(project: Project, kubectl: Kubectl, helm: Helm) -> None:
    helm("install", "sample", str(CHART), "--create-namespace", "--set=message=theirs", "--no-hooks")
    with pytest.raises(CommandError):
        project.up([release()])
    assert "cannot re-use a name that is still in use" in project.messages
    assert message(kubectl) == "theirs"
    assert project.refresh() == {}
    assert project.up([]) == {}  # nothing was recorded, so nothing is uninstalled
    assert message(kubectl) == "theirs"


def test_release_that_exists_can_be_imported(project: Project, kubectl: Kubectl, helm: Helm) -> None:
    helm("install", "sample", str(CHART), "--create-namespace", "--set=message=theirs", "--no-hooks")
    # Where a chart came from Helm does not keep: it is named after itself, in a folder beside the program.
    shutil.copytree(CHART, project.state.parent / "sample")
    given = {"chart": "sample", "name": "sample", "namespace": NAMESPACE, "values": {"message": "theirs"}}
    one = {"type": "kubernetes:helm.sh/v3:Release", "name": "r", "properties": given}
    assert project.up([{**one, "import": f"{NAMESPACE}/sample"}]) == {"create": 1, "import": 1}
    assert project.up([one]) == {}
    assert project.up([{**one, "properties": {**given, "values": {"message": "ours"}}}]) == {"update": 1}
    assert message(kubectl) == "ours"


def test_secret_value_is_nowhere_in_clear_in_the_state(project: Project, kubectl: Kubectl, helm: Helm) -> None:
    values = {"password": {"secret": "hush-hush"}, "message": "open"}
    for _ in range(2):
        project.up([release(values=values)])
        assert project.refresh() == {}
    assert kubectl.jsonpath("secret/sample", "{.data.password}", NAMESPACE) == "aHVzaC1odXNo"
    with pytest.raises(CommandError):
        project.up([release(values={**values, "image": NOWHERE}, timeout=5)])
    assert "failed to initialize completely" in project.messages
    project.refresh()
    states = [file.read_text() for file in project.state.rglob("*.json")]
    assert any("open" in state for state in states)
    assert not any("hush-hush" in state or "aHVzaC1odXNo" in state for state in states)
    assert "hush-hush" not in project.messages
    assert project.up([release(values={**values, **GOOD})]) == {"update": 1}


def test_preview_needs_no_cluster(project: Project, helm: Helm) -> None:
    gadget = resource("Gadget", "g", api="chart.test/v1", options={"after": ["r"]}, spec={"any": "thing"})
    resources = [provider_of(AWAY), *({**one, "provider": "p"} for one in (release(), gadget))]
    assert project.preview(resources) == {"create": 4}
    with pytest.raises(CommandError):
        project.up(resources)
    assert "configured Kubernetes cluster is unreachable" in project.messages


def test_value_that_is_not_known_yet_is_previewed(project: Project, kubectl: Kubectl, helm: Helm) -> None:
    config = resource("ConfigMap", "c", data={"a": "b"})
    dependent = {**release(values={"message": {"output": ["c", "id"]}}), "after": ["ns"]}
    resources: Resources = [NAMESPACE_RESOURCE, config, dependent]
    assert project.preview(resources) == {"create": 4}
    assert project.up(resources) == {"create": 4}
    assert message(kubectl) == f"{NAMESPACE}/c"


def test_custom_resource_of_the_charts_own_kind(project: Project, kubectl: Kubectl, helm: Helm) -> None:
    gadget = resource("Gadget", "g", api="chart.test/v1", options={"after": ["r"]}, spec={"any": "thing"})
    assert project.preview([release(), gadget]) == {"create": 3}
    assert project.up([release(), gadget]) == {"create": 3}
    assert kubectl.jsonpath("gadget.chart.test/g", "{.spec.any}", NAMESPACE) == "thing"


def test_options_reach_helm(project: Project, kubectl: Kubectl, helm: Helm) -> None:
    project.up([release(values={"image": NOWHERE}, skipAwait=True, skipCrds=True)])
    assert kubectl.jsonpath("deployment/sample", "{.status.unavailableReplicas}", NAMESPACE) == "1"
    assert not kubectl.succeeds("get", "crd/gadgets.chart.test")
    assert not kubectl.succeeds("get", "job/sample-hook", "-n", NAMESPACE)


@pytest.fixture
def repository(chart: Path, tmp_path: Path, environment: dict[str, str]) -> Iterator[str]:
    """A chart repository with one packed chart."""
    folder = tmp_path / "repository"
    folder.mkdir()
    with tarfile.open(folder / "sample-0.1.0.tgz", "w:gz") as packed:
        packed.add(chart, "sample")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    url = f"http://127.0.0.1:{server.server_port}"
    subprocess.run([environment["LLM_STACK_HELM"], "repo", "index", folder, f"--url={url}"], check=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield url
    server.shutdown()
    thread.join()
    server.server_close()


def test_chart_of_a_repository(project: Project, kubectl: Kubectl, helm: Helm, repository: str) -> None:
    # A folder beside the program that has the chart's name is not the chart.
    (project.state.parent / "sample").mkdir(exist_ok=True)
    options: dict[str, Any] = {"version": "~0.1", "repositoryOpts": {"repo": repository}}
    assert project.up([release("sample", values={"message": "served"}, **options)]) == {"create": 2}
    assert message(kubectl) == "served"
    assert project.state_of("r")["inputs"]["version"] == "0.1.0"


def test_packed_chart_of_a_folder(project: Project, kubectl: Kubectl, helm: Helm, repository: str) -> None:
    packed = project.state.parent / "repository" / "sample-0.1.0.tgz"
    assert project.up([release(packed.relative_to(project.state.parent), values={"message": "packed"})]) == {
        "create": 2
    }
    assert message(kubectl) == "packed"


@pytest.mark.parametrize(
    ("chart_name", "options", "words"),
    [
        ("./none", {}, ('chart "./none" could not be loaded', "not found")),
        (
            "sample",
            {"version": "1.2.3", "repositoryOpts": {"repo": "http://127.0.0.1:1"}},
            ('chart "sample" 1.2.3 of the repository http://127.0.0.1:1 could not be loaded', "cannot be reached"),
        ),
        ("oci://127.0.0.1:1/sample", {"version": "1.2.3"}, ('chart "oci://127.0.0.1:1/sample" 1.2.3', "refused")),
    ],
)
def test_chart_that_cannot_be_had_fails_in_the_preview(
    project: Project, chart_name: str, options: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(CommandError):
        project.preview([release(chart_name, **options)])
    for part in (*words, "check the chart name and repository configuration"):
        assert part in project.messages
