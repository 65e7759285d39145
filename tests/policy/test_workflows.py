"""What actionlint and zizmor cannot know of the workflows: that they agree with this project."""

import re
from typing import Any

import yaml

from local.project import ROOT
from local.toolchain.table import TOOLS

FILES = [path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml")]
STEPS: list[dict[str, Any]] = [
    step for file in FILES for job in yaml.safe_load(file)["jobs"].values() for step in job["steps"]
]


def test_steps_call_targets_that_there_are() -> None:
    targets = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    calls = [found[1].split() for step in STEPS if (found := re.search(r"\bmake (.*)", step.get("run", "")))]
    called = {word for call in calls for word in call if "=" not in word}
    assert {"test", "e2e", "preview", "drift"} <= called <= targets


def test_engine_is_the_one_that_is_pinned() -> None:
    (pinned,) = [tool.version for tool in TOOLS if tool.name == "pulumi"]
    installs = [step for step in STEPS if step.get("uses", "").startswith("pulumi/actions@")]
    assert {step["with"]["pulumi-version"] for step in installs} == {pinned}


def test_every_action_is_pinned_by_one_commit() -> None:
    uses = {use.strip() for file in FILES for use in re.findall(r"uses:(.*)", file)}
    pins = [re.fullmatch(r"([\w-]+/[\w-]+)@[0-9a-f]{40} # v\d+\.\d+\.\d+", use) for use in uses]
    actions = [pin[1] for pin in pins if pin]
    assert len(actions) == len(uses)
    assert len(actions) == len(set(actions))
