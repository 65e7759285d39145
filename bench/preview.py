"""`python -m bench.preview`: how long the real engine takes to preview a stack, without cluster, Docker, or anybody's state.

Alone, as `pulumi preview -s dev` does; and with the policies, as a pull request has it (`make preview`). What it takes to
get the charts from their publishers is no part of it: they come from a folder, and without `--charts` there is nothing in
them but their names and versions.
"""

import argparse
import io
import json
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import yaml

from bench import machine
from infra.versions import CHARTS
from local import project, toolchain
from local.environment import provide
from local.paths import Paths
from local.preview import STACK_FILE, Preview, pack_settings, preview
from local.screen import LocalError, Screen

STACKS = ("dev", "prod")
CHARTS_KEY = "llm-stack:charts"
RUNS = 5
MUST_SECONDS = 5.0  # without the policies


@dataclass(frozen=True, kw_only=True)
class Times:
    """Of one stack, in seconds; a value for each run."""

    stack: str
    resources: int
    alone: list[float]
    with_policies: list[float]

    @property
    def reached(self) -> bool:
        return median(self.alone) <= MUST_SECONDS


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0 when every stack is previewed in time, else 1."""
    options = _parser().parse_args(arguments)
    screen = Screen()
    try:
        times = _measure(options, screen)
    except LocalError as error:
        screen.say(str(error))
        return 1
    here = machine.describe()
    text = f"{here.cpu}, {here.cores} cores; medians of {options.runs}.\n\n{markdown(times)}"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "preview.json").write_text(
        json.dumps({"machine": asdict(here), "stacks": [asdict(stack) for stack in times]}, indent=1)
    )
    (options.out / "preview.md").write_text(text)
    print(text)
    return 0 if all(stack.reached for stack in times) else 1


def markdown(times: Sequence[Times]) -> str:
    """The table, a line for each stack."""
    lines = ["| preview of | resources | must | reached | with the policies |", "|---|---|---|---|---|"]
    for stack in times:
        verdict = "" if stack.reached else " (missed)"
        lines.append(
            f"| {stack.stack} | {stack.resources} | {MUST_SECONDS:g} s | **{median(stack.alone):.1f} s**{verdict} "
            f"| {median(stack.with_policies):.1f} s |"
        )
    return "\n".join(lines) + "\n"


def _measure(options: argparse.Namespace, screen: Screen) -> list[Times]:
    """Previews each stack by turns without and with the policies, after one of each that counts for nothing.

    Raises:
        LocalError: a preview was refused.
    """
    paths = Paths()
    paths.home.mkdir(parents=True, exist_ok=True)
    times = []
    with tempfile.TemporaryDirectory(prefix="llm-stack-bench-") as temporary:
        apart = replace(paths, run=Path(temporary, "run"))  # beside a cluster that may run
        tools = toolchain.obtain(apart, screen, ["pulumi", "helm"])
        environment = provide(apart, tools, screen)
        charts = options.charts.resolve() if options.charts else empty_charts(Path(temporary, "charts"))
        root = Path(temporary, "project")
        _link_project(root, options.stacks, charts)

        def one(stack: str, *, policies: bool) -> Preview:
            said = preview(stack, tools.bin.parent, environment, pack_settings(stack), root, policies=policies)
            if said.refused:
                raise LocalError(
                    f"The preview of {stack} was refused:\n  - " + "\n  - ".join(said.faults),
                    "Mend what is named above, or name other stacks by --stacks.",
                )
            return said

        for stack in options.stacks:
            seconds: dict[bool, list[float]] = {False: [], True: []}
            with screen.step(f"Previews of {stack}") as step:
                for number in range(options.runs + 1):
                    for policies, taken in seconds.items():
                        step.report(f"run {number} of {options.runs}{', with policies' if policies else ''}")
                        said = one(stack, policies=policies)
                        taken.append(said.seconds)
            times.append(
                Times(
                    stack=stack,
                    resources=sum(said.changes.values()),
                    alone=seconds[False][1:],
                    with_policies=seconds[True][1:],
                )
            )
    return times


def empty_charts(folder: Path) -> Path:
    """A folder with the pinned charts by name and version, and nothing in them."""
    folder.mkdir()
    for chart in CHARTS:
        files = {
            "Chart.yaml": yaml.safe_dump({"apiVersion": "v2", "name": chart.name, "version": chart.version}),
            "templates/nothing.yaml": "",
        }
        with tarfile.open(folder / chart.file, "w:gz") as archive:
            for name, text in files.items():
                entry = tarfile.TarInfo(f"{chart.name}/{name}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
    return folder


def _link_project(root: Path, stacks: Sequence[str], charts: Path) -> None:
    """The project in ``root``, with stacks that take their charts from a folder.

    Raises:
        LocalError: there is no such stack.
    """
    root.mkdir()
    changed = {STACK_FILE.format(stack) for stack in stacks}
    for entry in project.ROOT.iterdir():
        if entry.name not in changed:
            (root / entry.name).symlink_to(entry)
    for name in changed:
        if not (project.ROOT / name).is_file():
            raise LocalError(f"There is no {project.ROOT / name}.", "Name stacks that have a file, by --stacks.")
        content = yaml.safe_load((project.ROOT / name).read_text())
        content["config"][CHARTS_KEY] = {"source": "folder", "path": str(charts)}
        (root / name).write_text(yaml.safe_dump(content))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.preview", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stacks", nargs="+", default=list(STACKS), metavar="STACK")
    parser.add_argument("--charts", type=Path, metavar="FOLDER", help="with the charts as their publishers made them")
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help="of which the medians are taken")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIRECTORY")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
