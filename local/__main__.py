"""`python3 -m local up | tools | preview | status | down | logs | ask | env`: the stack on this machine."""

import argparse
import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from local import ask, model, project, toolchain
from local.cluster.cluster import Cluster
from local.cluster.layout import CONTEXT
from local.environment import provide, shell, without_proxy
from local.paths import HOME_VARIABLE, Paths
from local.screen import LocalError, Screen
from local.state import STACK

GIGABYTE = 10**9
# Two generations of an image with torch (8 GB, and 5 for its cache), the packages they are made from, tools and etcd; Go's
# caches (10 GB) are gone before the first image.
DISK_GIGABYTES = 35
INTERRUPTED = 130  # a shell's status for a command that Ctrl-C ended
QUESTION = "Say hello in one short sentence."
STACK_SECONDS = 40.0  # expected, with the image at hand
IMAGE_SECONDS = 240.0  # expected, on top, where it has to be built: torch comes over the network
NAMESPACE = "llm"  # of Pulumi.local.yaml
REPORTS = project.ROOT / "build"
SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"  # the page of a run on GitHub


def main(arguments: list[str]) -> int:
    """Runs one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    os.environ.update(without_proxy())
    screen = Screen()
    try:
        _COMMANDS[options.command](options, Paths(), screen)
    except LocalError as error:
        screen.say(str(error))
        return 1
    except KeyboardInterrupt:
        screen.say("Stopped. `make up` goes on from here; `make down` removes what is there.")
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="tools, cluster, image, model, stack, and a first answer")
    up.add_argument(
        "--fake-gpus", type=int, default=0, metavar="N", help="offer N devices of nvidia.com/gpu without hardware"
    )
    up.add_argument("--cluster-only", action="store_true", help="stop before the stack")
    down = commands.add_parser("down", help="remove everything that runs; caches stay")
    down.add_argument("--purge", action="store_true", help="remove caches, images and weights too")
    tools = commands.add_parser("tools", help="only get the tools; prints the directory with the commands")
    tools.add_argument("names", nargs="*", metavar="NAME", help="all that `up` needs, when none is named")
    preview = commands.add_parser("preview", help="a stack's preview and policies, without cluster, state or secrets")
    preview.add_argument("stack")
    commands.add_parser("status", help="what runs, how much disk it takes")
    logs = commands.add_parser("logs", help="logs of the served model, or of a process of the cluster")
    logs.add_argument("process", nargs="?", help="kubelet, containerd, kube-apiserver, …")
    question = commands.add_parser("ask", help="one question to the model")
    question.add_argument("question")
    commands.add_parser("env", help='shell variables: eval "$(python3 -m local env)"')
    return parser


def _up(options: argparse.Namespace, paths: Paths, screen: Screen) -> None:
    project.enter(screen)
    repository = _image_repository()
    with _alone(paths):
        paths.create()
        toolchain.require_system(screen)
        Cluster.check(paths)
        tools = toolchain.obtain(paths, screen)
        cluster = Cluster(paths, tools)
        cluster.up(screen, options.fake_gpus)
        if options.cluster_only:
            return
        with screen.step("Model") as step:
            weights = model.provide(paths, step)
            model.serve(paths, weights)
            step.done(weights.repository)
        expected = STACK_SECONDS if cluster.holds(repository) else STACK_SECONDS + IMAGE_SECONDS
        endpoint = _deploy(paths, tools, screen, expected)
    screen.say(f"\nOne chat completion from {endpoint}:\n")
    _answer(endpoint, QUESTION)
    if weights.random:
        screen.say(
            "\n(No hub answered at the first `up`, so the weights are random and the text is noise. For a real model: "
            f"`make down`, remove {paths.weights}, `make up`.)"
        )
    screen.say(
        f'\nAsk again       python3 -m local ask "{QUESTION}"'
        f"\nOpenAI clients  base_url={endpoint}"
        '\npulumi, kubectl eval "$(python3 -m local env)"'
        f"\nSee it scale    kubectl get hpa,pods -n {NAMESPACE} --watch"
        "\nStop            make down"
    )


def _image_repository() -> str:
    """Where the image of the stack goes; every fault of its configuration at once, before minutes go into tools and a cluster."""
    from infra.config import schema  # needs the project's environment
    from infra.config.files import from_files
    from infra.config.loader import parse
    from infra.config.parsing import ConfigError

    try:
        config = parse(from_files(STACK))
    except ConfigError as error:
        raise LocalError(str(error), f"Mend Pulumi.{STACK}.yaml and run the command again.") from None
    if config.cluster.context != CONTEXT:
        raise LocalError(
            f"Pulumi.{STACK}.yaml names the context {config.cluster.context!r}; this command only deploys to {CONTEXT}.",
            "For a cluster of yours use a stack of its own, such as `pulumi up -s dev`: see the README.",
        )
    match config.image:
        case schema.BuildImage(repository=repository):
            return repository
        case schema.PrebuiltImage(reference=reference):
            return reference.partition("@")[0]


def _deploy(paths: Paths, tools: toolchain.Tools, screen: Screen, expected_seconds: float) -> str:
    from local.stack import LocalStack  # pulumi is there in the project's environment only

    stack = LocalStack(tools.bin.parent, provide(paths, tools, screen))
    with screen.step("Stack", expected_seconds) as step:
        outputs = stack.up(step)
    return str(outputs["endpoint_url"])


def _tools(options: argparse.Namespace, paths: Paths, screen: Screen) -> None:
    paths.create()
    print(toolchain.obtain(paths, screen, options.names).bin)


def _preview(options: argparse.Namespace, paths: Paths, screen: Screen) -> None:
    project.enter(screen)
    from local.preview import pack_settings, preview

    with suppress(OSError):
        paths.home.mkdir(parents=True, exist_ok=True)
    if not os.access(paths.home, os.W_OK):
        raise LocalError(
            f"{paths.home}, where tools are kept, cannot be written to.",
            f"Set {HOME_VARIABLE} to a directory of yours.",
        )
    with tempfile.TemporaryDirectory(prefix="llm-stack-run-") as run:  # beside a cluster that may run, and without root
        apart = replace(paths, run=Path(run))
        tools = toolchain.obtain(apart, screen, ["pulumi"])
        environment = provide(apart, tools, screen)
        said = preview(options.stack, tools.bin.parent, environment, pack_settings(options.stack))
    print("\n".join(said.lines))
    REPORTS.mkdir(exist_ok=True)
    report = REPORTS / f"preview-{options.stack}.md"
    report.write_text(said.markdown())
    if summary := os.environ.get(SUMMARY_VARIABLE):
        with Path(summary).open("a") as page:
            page.write(said.markdown())
    if said.refused:
        raise LocalError(
            f"The preview of {options.stack} was refused:\n  - " + "\n  - ".join(said.faults),
            f"Mend what is named above and run the command again; the whole report is {report}.",
        )


def _down(options: argparse.Namespace, paths: Paths, screen: Screen) -> None:
    with _alone(paths):
        Cluster.down(paths, screen, purge=options.purge)
        paths.lock.unlink()


def _status(_: argparse.Namespace, paths: Paths, screen: Screen) -> None:
    running = Cluster.running(paths)
    print(f"processes  {', '.join(running) or 'none'}")
    for directory in (paths.cache, paths.images, paths.weights, paths.cluster, paths.pulumi):
        print(f"{directory}  {_size(directory) / GIGABYTE:.1f} GB")
    print(f"{paths.home}  {_size(paths.home) / GIGABYTE:.1f} GB in all, never more than {DISK_GIGABYTES}")
    if running:
        tools = toolchain.obtain(paths, screen)
        cluster = Cluster(paths, tools)
        print(cluster.kubectl("get", "pods", "--all-namespaces"), end="")


def _size(directory: os.PathLike[str]) -> int:
    """Bytes on disk, hard links counted once."""
    done = subprocess.run(["du", "-s", "-x", "--block-size=1", directory], capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0]) if done.stdout else 0


def _need_cluster(paths: Paths) -> None:
    if not Cluster.running(paths):
        raise LocalError("Nothing runs on this machine.", "`make up` starts it.")


def _logs(options: argparse.Namespace, paths: Paths, screen: Screen) -> None:
    _need_cluster(paths)
    cluster = Cluster(paths, toolchain.obtain(paths, screen))
    if options.process:
        log = cluster.layout.logs / f"{options.process}.log"
        if not log.exists():
            there = ", ".join(sorted(file.stem for file in cluster.layout.logs.glob("*.log")))
            raise LocalError(
                f"There is no log of {options.process!r}.", f"There are: {there or 'none, nothing has run'}."
            )
        os.execvp("tail", ["tail", "-n", "200", "-F", str(log)])
    command = cluster.kubectl.command(
        "logs", "--namespace", NAMESPACE, "--selector", "app.kubernetes.io/name=llm-server", "--prefix", "--follow"
    )
    os.execv(command[0], command)


def _ask(options: argparse.Namespace, paths: Paths, screen: Screen) -> None:
    _need_cluster(paths)
    project.enter(screen)
    tools = toolchain.obtain(paths, screen)
    environment = {**os.environ, **provide(paths, tools, screen)}
    done = subprocess.run(
        [str(tools.pulumi), "stack", "output", "--json", "-s", STACK],
        cwd=project.ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    endpoint = json.loads(done.stdout).get("endpoint_url") if done.returncode == 0 else None
    if endpoint is None:  # an interrupted first update leaves a stack without outputs
        raise LocalError("No stack is deployed here.", "Run `make up`.")
    _answer(endpoint, options.question)


def _answer(endpoint: str, question: str) -> None:
    for piece in ask.chat(endpoint, question):
        print(piece, end="", flush=True)
    print()


def _env(_: argparse.Namespace, paths: Paths, screen: Screen) -> None:
    project.enter(screen)
    tools = toolchain.obtain(paths, screen)
    print(shell(provide(paths, tools, screen)))


def _root() -> None:
    if os.geteuid() != 0:
        raise LocalError(
            "The embedded cluster needs root (containers, network, mounts).",
            "Run the command with sudo, or point the stack at a cluster of yours: see the README.",
        )


@contextmanager
def _alone(paths: Paths) -> Iterator[None]:
    """One `up` or `down` at a time on this host."""
    _root()
    with paths.lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError(
                "Another `up` or `down` is at work on this machine.",
                "Wait for it, or stop it with Ctrl-C in its terminal.",
            ) from None
        yield


_COMMANDS = {
    "up": _up,
    "tools": _tools,
    "preview": _preview,
    "down": _down,
    "status": _status,
    "logs": _logs,
    "ask": _ask,
    "env": _env,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
