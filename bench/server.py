"""`python -m bench.server --out build/bench`: the server against its bars, on this machine.

What was measured is kept in the file of results as soon as it is: the same command goes on where it was interrupted, and
`--rows` measures single ones. `--quick` only shows that everything works; its figures are worth nothing.
"""

import argparse
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import machine, model
from bench.drive import run
from bench.measures.setting import CONFIGURATION, PEER_PAGES, Samples, Setting
from bench.processes import BenchError
from bench.table import EXPERIMENTS, LLAMA_ONLY, NATIVE_BFLOAT16_ONLY, ROWS, markdown
from local import project
from local.screen import Screen

RUNS, QUICK_RUNS = 5, 1
MIXED_REQUESTS, QUICK_MIXED_REQUESTS = 2000, 220
PACKAGES = ("torch", "transformers", "uvicorn")
BUSY_CORES = 0.2  # by other work before a measurement: beyond that, it is said
FAILURE_CHARACTERS = 160  # of its reason, in the table; the whole stands on the screen
DIGEST_CHARACTERS = 16
NO_BFLOAT16 = "this CPU does not multiply in bfloat16"
LLAMA_VERSION = "llama.cpp"  # kept with what was measured of it: the other rows are the same without it
NO_LLAMA_SERVER = "not measured: no --llama-server"
INTERRUPTED = 130  # a shell's status for a command that Ctrl-C ended


@dataclass
class Results:
    """What is measured so far, in a file."""

    file: Path
    about: dict[str, Any]
    """On what: results that differ in it are not of the same table."""
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def opened(cls, file: Path, about: dict[str, Any]) -> "Results":
        """With what the file has, where that was measured on the same."""
        results = cls(file, about)
        if file.exists():
            read = json.loads(file.read_text())
            if read["about"] == about:
                results.experiments = read["experiments"]
            else:
                file.rename(file.with_suffix(f".{time.strftime('%Y-%m-%d-%H%M%S')}.json"))
        return results

    @property
    def samples(self) -> Mapping[str, Samples]:
        return {name: measured["samples"] for name, measured in self.experiments.items() if "samples" in measured}

    def keep(self, experiment: str, **measured: Any) -> None:
        """Writes the file anew."""
        self.experiments[experiment] = measured
        rows = [
            {
                "title": row.title,
                "must": row.must,
                "aim": row.aim,
                **asdict(reached),
                "verdict": row.verdict(reached.value),
            }
            for row in ROWS
            if row.experiment in self.samples
            for reached in (row.reached(self.samples[row.experiment]),)
        ]
        unfinished = self.file.with_suffix(".unfinished")
        unfinished.write_text(
            json.dumps({"about": self.about, "experiments": self.experiments, "rows": rows}, indent=1)
        )
        unfinished.rename(self.file)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0 when every bar that was measured is reached, else 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for pattern in options.rows:
        if not any(fnmatchcase(name, pattern) for name in EXPERIMENTS):
            parser.error(f"--rows {pattern}: there are {', '.join(EXPERIMENTS)}")
    screen = Screen()
    options.out.mkdir(parents=True, exist_ok=True)
    setting = Setting(
        model=model.provide(options.model or options.out / "model").resolve(),
        directory=options.server.resolve(),
        logs=options.out / "logs",
        runs=QUICK_RUNS if options.quick else options.runs,
        mixed_requests=QUICK_MIXED_REQUESTS if options.quick else options.mixed_requests,
        llama_server=options.llama_server,
        configuration={**CONFIGURATION, **dict(options.set)},
    )
    here = machine.describe()
    hindrances = _hindrances(setting, here)
    results = Results.opened(options.out / "server.json", _about(setting, here))
    try:
        failures = _measure(options, setting, hindrances, results, screen)
    except KeyboardInterrupt:
        screen.say("Stopped. The same command goes on from here.")
        return INTERRUPTED
    text = f"{_heading(results, _commit(setting.directory))}\n\n{markdown(results.samples, hindrances | failures)}"
    (options.out / "server.md").write_text(text)
    print(text)
    print(f"{results.file}\n{options.out / 'server.md'}")
    missed = [row for row in ROWS if (taken := results.samples.get(row.experiment)) and _missed(row, taken)]
    return 1 if missed or failures else 0


def _measure(
    options: argparse.Namespace, setting: Setting, hindrances: Mapping[str, str], results: Results, screen: Screen
) -> dict[str, str]:
    """Measures what is wanted and not there yet; returns why single experiments came to nothing."""
    failures: dict[str, str] = {}
    wanted = [name for name in EXPERIMENTS if any(fnmatchcase(name, pattern) for pattern in options.rows)]
    for number, name in enumerate(wanted, start=1):
        title = f"{name} ({number} of {len(wanted)})"
        if name in hindrances:
            screen.say(f"  {title}: {hindrances[name]}")
            continue
        if name in results.samples and not options.again:
            screen.say(f"  {title}: measured before (--again measures it anew)")
            continue
        busy = machine.busy_cores()
        began = time.monotonic()
        try:
            with screen.step(title) as step:
                samples = run(EXPERIMENTS[name].measure(setting, step.report))
                if busy > BUSY_CORES:
                    step.done(f"other work took {busy:g} cores before it: its times are worth little")
        except (BenchError, TimeoutError) as error:
            screen.say(f"  {name}: {error}")
            last_line = (str(error).splitlines() or ["it took too long"])[-1]
            failures[name] = f"failed: {last_line[:FAILURE_CHARACTERS]}".replace("|", "/")
            continue
        results.keep(
            name,
            samples=samples,
            commit=_commit(setting.directory),
            busy_cores_before=busy,
            seconds=round(time.monotonic() - began, 1),
            **({LLAMA_VERSION: _version(setting.llama_server)} if name in LLAMA_ONLY and setting.llama_server else {}),
        )
    return failures


def _hindrances(setting: Setting, here: machine.Machine) -> dict[str, str]:
    """Why experiments cannot be measured here."""
    hindrances: dict[str, str] = {}
    if here.bfloat16 is None:
        hindrances |= dict.fromkeys(NATIVE_BFLOAT16_ONLY, NO_BFLOAT16)
    if setting.llama_server is None:
        hindrances |= dict.fromkeys(LLAMA_ONLY, NO_LLAMA_SERVER)
    return hindrances


def _missed(row: Any, samples: Samples) -> bool:
    return bool(row.verdict(row.reached(samples).value) == "missed")


def _about(setting: Setting, here: machine.Machine) -> dict[str, Any]:
    return {
        "machine": asdict(here),
        "packages": {name: version(name) for name in PACKAGES},
        "service": _source(setting.directory / "service"),
        "configuration": dict(setting.configuration),
        "peer_pages": PEER_PAGES,
        "runs": setting.runs,
        "mixed_requests": setting.mixed_requests,
    }


def _heading(results: Results, commit: str) -> str:
    about = results.about
    where, packages = about["machine"], ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    bfloat16 = f"bfloat16 by {where['bfloat16']}" if where["bfloat16"] else "no native bfloat16"
    settings = " ".join(f"{name}={value}" for name, value in about["configuration"].items())
    llama = {measured[LLAMA_VERSION] for measured in results.experiments.values() if LLAMA_VERSION in measured}
    packages = ", ".join((packages, *(f"llama.cpp {number}" for number in sorted(llama))))
    return (
        f"{where['cpu']}, {where['cores']} cores, {where['memory_gib']:g} GiB, {bfloat16}; {packages}; the server of commit "
        f"{commit} with {settings}; medians of {about['runs']}, the client on the same cores."
    )


def _source(directory: Path) -> str:
    """A digest of the server's program: results of different ones are not put into one table."""
    digest = hashlib.sha256()
    for file in sorted(directory.rglob("*.py")):
        digest.update(f"{file.relative_to(directory)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:DIGEST_CHARACTERS]


def _commit(directory: Path) -> str:
    """That of the server, and whether it was changed since."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return described.stdout.strip() or "unknown"


def _version(llama_server: Path) -> str:
    said = subprocess.run([llama_server, "--version"], capture_output=True, text=True, check=False)
    prefix = "version: "
    lines = (said.stdout + said.stderr).splitlines()
    return next((line.removeprefix(prefix) for line in lines if line.startswith(prefix)), "of an unknown version")


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=VALUE")
    return name, value


def _program(text: str) -> Path:
    if (found := shutil.which(text)) is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a program, such as build/llama.cpp/bin/llama-server")
    return Path(found).resolve()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIRECTORY")
    parser.add_argument(
        "--server", type=Path, default=project.ROOT, metavar="DIRECTORY", help="with the `service` to measure"
    )
    parser.add_argument("--model", type=Path, metavar="DIRECTORY", help="where the model is, or is written to")
    parser.add_argument(
        "--rows",
        nargs="+",
        default=["*"],
        metavar="NAME",
        help=f"of {', '.join(EXPERIMENTS)}; patterns such as 'fp32-*'",
    )
    parser.add_argument("--again", action="store_true", help="also what was measured before")
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help="of which the medians are taken")
    parser.add_argument("--mixed-requests", type=int, default=MIXED_REQUESTS, metavar="N", help="of `memory`")
    parser.add_argument("--set", type=_variable, action="append", default=[], metavar="NAME=VALUE", help="the server's")
    parser.add_argument(
        "--llama-server", type=_program, metavar="FILE", help="llama.cpp's server, for the rows that are about it"
    )
    parser.add_argument("--quick", action="store_true", help="one run of each, and few requests for `memory`")
    return parser


if __name__ == "__main__":
    # As Ctrl-C: servers that are measured must not outlive this process.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    sys.exit(main(sys.argv[1:]))
