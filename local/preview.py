"""What a pull request can be told: a preview by the real engine and the policies, without cluster, state or secrets."""

import json
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pulumi import automation
from pulumi.automation.errors import CommandError

from local import project
from local.providers.values import SIGNATURE, UNKNOWN
from local.screen import LocalError
from local.stack import COLOUR

PACK = project.ROOT / "policy"
PYTHON = PACK / ".venv" / "bin" / "python"
STACK_FILE = "Pulumi.{}.yaml"
STACK_TYPE = "pulumi:pulumi:Stack"
# How Pulumi writes an encrypted value, and the keys of a stack's file that say how to read it.
SECURE = "secure"
ENCRYPTION = ("encryptionsalt", "encryptedkey", "secretsprovider")
# In the place of every secret: nobody has to know one for a preview.
STAND_IN = "a-secret-that-this-preview-does-not-know"
# The engine's remarks that tell nobody anything: on each of our plugins, which stand in for official ones, and at its end.
REMARKS = ("from $PATH at", "preview failed")
# In the engine's text: what names the same resource once more.
ADDRESS_LINE = re.compile(r" *\[(?:urn|provider)=")
FENCE = "````"  # longer than any in what it encloses
# GitHub takes 65,536 characters in a comment, which may hold two stacks.
TEXT_CHARACTERS = 30_000


@dataclass
class Preview:
    """What the engine said of one stack. ``findings`` are its errors and warnings, and what the policies report."""

    stack: str
    findings: list[str] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    refused: bool = False
    seconds: float = 0.0
    """What the engine took, from its start to its end."""

    def take(self, event: automation.EngineEvent) -> None:
        if (said := event.diagnostic_event) is not None and said.severity in ("error", "warning"):
            self._find(said.severity, said.urn, said.message)
        elif (broken := event.policy_event) is not None:
            # The first line is the policy's description, the same for whatever it reports.
            message = broken.message.partition("\n")[2] or broken.message
            self._find(f"{broken.policy_name} ({broken.enforcement_level})", broken.resource_urn, message)
        elif (made := event.res_outputs_event) is not None and made.metadata.type == STACK_TYPE and made.metadata.new:
            self.outputs = dict(made.metadata.new.outputs or {})
        elif (summary := event.summary_event) is not None:
            self.changes = {str(getattr(op, "value", op)): count for op, count in summary.resource_changes.items()}

    def _find(self, kind: str, urn: str | None, message: str) -> None:
        words = [kind, *([urn.rpartition("::")[2]] if urn else []), COLOUR.sub("", message).strip()]
        finding = ": ".join(words)
        if finding not in self.findings and not any(remark in finding for remark in REMARKS):
            self.findings.append(finding)

    @property
    def faults(self) -> list[str]:
        """Those of the findings for which the preview was refused."""
        return [finding for finding in self.findings if not re.match(r"warning: |\S+ \(advisory\)", finding)]

    def markdown(self) -> str:
        """The preview as a comment: what is wrong, what it gives and costs, and every change."""
        counts = ", ".join(f"{count} to {op}" for op, count in sorted(self.changes.items())) or "nothing to change"
        lines = [f"### `{self.stack}`: {'refused' if self.refused else counts}", ""]
        lines += [f"- {_indented(finding)}" for finding in self.findings] or ["No findings."]
        if self.outputs:
            lines += ["", "| output | value |", "|---|---|"]
            lines += [f"| {name} | {_cell(value)} |" for name, value in self.outputs.items()]
        text = "\n".join(line for line in self.lines if not ADDRESS_LINE.match(line))
        if len(text) > TEXT_CHARACTERS:
            text = f"{text[:TEXT_CHARACTERS]}\n… (the rest: `make preview STACK={self.stack}`)"
        return "\n".join(
            [*lines, "", "<details><summary>Every change</summary>", "", FENCE, text, FENCE, "", "</details>", ""]
        )


def pack_settings(stack: str) -> Path | None:
    """The file with the pack's settings for a stack, where it has one."""
    file = PACK / f"{stack}.json"
    return file if file.is_file() else None


def preview(
    stack: str,
    pulumi_root: Path,
    environment: Mapping[str, str],
    settings: Path | None,
    root: Path = project.ROOT,
    *,
    policies: bool = True,
) -> Preview:
    """Previews ``stack`` of the project in ``root``, against an empty state, with ``settings`` for the pack.

    Without ``policies`` the pack is left out.

    Raises:
        LocalError: there is no such stack, or the pack's environment is missing.
    """
    if not PYTHON.exists():
        raise LocalError(f"{PYTHON} is not there.", "Run `make policy/.venv/pack`, or the whole by `make preview`.")
    said = Preview(stack)
    file = root / STACK_FILE.format(stack)
    kept = _settings(file)
    with _detached(root, file, _opened(kept)) as (directory, detached):
        options = automation.LocalWorkspaceOptions(
            pulumi_command=automation.PulumiCommand(root=str(pulumi_root)), env_vars={**environment, **detached}
        )
        made = automation.create_stack(stack_name=stack, work_dir=str(directory), opts=options)
        if secrets := dict.fromkeys(_secrets(kept.get("config")), automation.ConfigValue(STAND_IN, secret=True)):
            made.set_all_config(secrets, path=True)
        began = time.monotonic()
        try:
            made.preview(
                diff=True,
                policy_packs=[str(PACK)] if policies else None,
                policy_pack_configs=[str(settings)] if settings and policies else None,
                on_event=said.take,
                on_output=said.lines.append,
                color="never",
            )
        except CommandError as error:
            said.refused = True
            if not said.findings:  # the engine did not come as far as saying anything
                said.findings.append(str(error).strip())
        said.seconds = time.monotonic() - began
    return said


@contextmanager
def _detached(root: Path, file: Path, settings: Mapping[str, Any]) -> Iterator[tuple[Path, dict[str, str]]]:
    """The project in another directory, with ``settings`` as its stack's ``file``; and the variables that keep the rest out.

    Everything but that file is linked to: the engine would write its own encryption into the one that is there.
    """
    with tempfile.TemporaryDirectory(prefix="llm-stack-preview-") as temporary:
        directory, state = Path(temporary, "project"), Path(temporary, "state")
        directory.mkdir()
        state.mkdir()
        for entry in root.iterdir():
            if entry != file:
                (directory / entry.name).symlink_to(entry)
        (directory / file.name).write_text(yaml.safe_dump(settings))
        yield (
            directory,
            {
                "PULUMI_BACKEND_URL": f"file://{state}",
                "PULUMI_CONFIG_PASSPHRASE": "",
                "KUBECONFIG": str(Path(temporary, "no-cluster")),
            },
        )


def _settings(file: Path) -> dict[str, Any]:
    """What a stack's file says, without how its secrets are read."""
    if not file.is_file():
        known = ", ".join(sorted(path.name.split(".")[1] for path in file.parent.glob(STACK_FILE.format("*"))))
        raise LocalError(f"There is no {file}.", f"Name a stack that has a file: {known or 'none has'}.")
    return {key: value for key, value in yaml.safe_load(file.read_text()).items() if key not in ENCRYPTION}


def _opened(value: Any) -> Any:
    """The value with something to replace in the place of every encrypted one."""
    if isinstance(value, dict):
        return STAND_IN if set(value) == {SECURE} else {key: _opened(inner) for key, inner in value.items()}
    return [_opened(inner) for inner in value] if isinstance(value, list) else value


def _secrets(value: Any, path: str = "") -> Iterator[str]:
    """Where encrypted values are, as paths of `pulumi config set --path`."""
    if isinstance(value, dict):
        if set(value) == {SECURE}:
            yield path
        for key, inner in value.items():
            yield from _secrets(inner, f'{path}["{key}"]' if path else key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _secrets(inner, f"{path}[{index}]")


def _indented(finding: str) -> str:
    return finding.replace("\n", "\n  ")


def _cell(value: Any) -> str:
    shown = _shown(value)
    return (shown if isinstance(shown, str) else json.dumps(shown)).replace("|", "\\|").replace("\n", " ")


def _shown(value: Any) -> Any:
    """An output for people: no signs of the engine's, whose text of a secret is hidden already."""
    if isinstance(value, dict):
        return "[secret]" if SIGNATURE in value else {name: _shown(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    return "known after the update" if isinstance(value, str) and value in UNKNOWN else value
