"""The local stack through Pulumi's Automation API: the project on disk, the real engine, progress from its events."""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pulumi import automation
from pulumi.automation.errors import CommandError

from local import project
from local.cluster.daemon import alive
from local.screen import LocalError, Step
from local.state import STACK

COLOUR = re.compile(r"<\{%[^%]*%\}>|\x1b\[[0-9;]*m")  # the engine's own markup, and a terminal's
SHOWN_CHARACTERS = 70


@dataclass
class _Progress:
    """What the events of one update have said so far."""

    step: Step
    finished: int = 0
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    summary: str = ""

    def take(self, event: automation.EngineEvent) -> None:
        if (diagnostic := event.diagnostic_event) is not None:
            text = COLOUR.sub("", diagnostic.message).strip()
            if diagnostic.severity == "error":
                self.errors.append(f"{_name(diagnostic.urn)}: {text}" if diagnostic.urn else text)
            elif text and diagnostic.severity != "debug":
                self.step.report(f"{_name(diagnostic.urn)}: {text.splitlines()[-1][:SHOWN_CHARACTERS]}")
        elif (begun := event.resource_pre_event) is not None and begun.metadata.op != "same":
            self.step.report(f"{begun.metadata.op.value} {_name(begun.metadata.urn)}")
        elif event.res_outputs_event is not None:
            self.finished += 1
        elif (summary := event.summary_event) is not None:
            changes = {str(getattr(op, "value", op)): count for op, count in summary.resource_changes.items()}
            self.summary = ", ".join(f"{count} {op}" for op, count in sorted(changes.items()))


def _name(urn: str | None) -> str:
    return (urn or "stack").rpartition("::")[2]


@dataclass(frozen=True)
class LocalStack:
    """The stack `local` of the project in this checkout, in the given environment."""

    pulumi_root: Path  # a directory whose bin/ has the command
    environment: Mapping[str, str]

    def up(self, step: Step) -> Mapping[str, object]:
        """Deploys and returns the stack's outputs.

        Raises:
            LocalError: with every message of the engine.
        """
        stack = self._stack()
        progress = _Progress(step)
        outputs: dict[str, object] = {}

        def deploy() -> None:
            result = stack.up(on_event=progress.take, color="never")
            outputs.update({name: output.value for name, output in result.outputs.items()})

        self._run(deploy, progress)
        step.done(progress.summary)
        return outputs

    def destroy(self, step: Step) -> None:
        """Removes what the stack made, then forgets it."""
        progress = _Progress(step)
        stack = self._stack()
        self._run(lambda: stack.destroy(on_event=progress.take, color="never"), progress)
        step.done(progress.summary)

    def _stack(self) -> automation.Stack:
        self._release_dead_locks()
        return automation.create_or_select_stack(
            stack_name=STACK,
            work_dir=str(project.ROOT),
            opts=automation.LocalWorkspaceOptions(
                pulumi_command=automation.PulumiCommand(root=str(self.pulumi_root)), env_vars=dict(self.environment)
            ),
        )

    def _release_dead_locks(self) -> None:
        """A killed engine leaves its lock behind; one whose process lives is somebody's running update."""
        locks = Path(self.environment["PULUMI_BACKEND_URL"].removeprefix("file://")) / ".pulumi" / "locks"
        for lock in locks.rglob("*.json"):
            if not alive(int(json.loads(lock.read_text())["pid"])):
                lock.unlink()

    @staticmethod
    def _run(work: Callable[[], object], progress: _Progress) -> None:
        """Runs ``work`` beside the main thread: an interrupt then waits for the engine, which stops in good order by itself."""
        failures: list[BaseException] = []

        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # carried to the main thread
                failures.append(error)

        worker = threading.Thread(target=guarded)
        worker.start()
        try:
            worker.join()
        except KeyboardInterrupt:
            progress.step.report("stopping in good order")
            worker.join()
            raise
        if failures and isinstance(failures[0], CommandError):
            said = list(dict.fromkeys(progress.errors)) or [str(failures[0]).strip()]
            raise LocalError(
                "The stack was not deployed.\n  " + "\n  ".join(said),
                "Mend what is named above and run the command again.",
            )
        if failures:
            raise failures[0]
