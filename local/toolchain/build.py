"""Building tools from their Go modules. Versions are pinned by go.mod, contents by go.sum; Go checks both."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from local.screen import LocalError
from local.toolchain.table import Tool

SHOWN_LINES = 15


def build(tool: Tool, go: Path, target: Path, cache: Path, report: Callable[[str], None]) -> None:
    """Builds ``tool`` into the directory ``target``; an interrupted build goes on from Go's caches below ``cache``.

    Raises:
        LocalError: with the last lines of the compiler.
    """
    environment = {
        **os.environ,
        "GOMODCACHE": str(cache / "mod"),
        "GOCACHE": str(cache / "build"),
        "CGO_ENABLED": "0",
        "GOFLAGS": "",
        "GOTOOLCHAIN": "auto",
    }
    target.mkdir(parents=True, exist_ok=True)
    command = [str(go), "build", "-v", "-trimpath", "-ldflags", tool.linker_flags, "-o", f"{target}/", *tool.packages]
    if not tool.packages:
        command = [str(go), "mod", "download", tool.share_module]
    lines: list[str] = []
    compiled = 0
    with subprocess.Popen(
        command, cwd=tool.sources, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                lines.append(line.rstrip())
                if line.startswith("go: downloading"):
                    report(f"downloading {line.split()[2]}")
                elif "/" in line:
                    compiled += 1
                    report(f"{compiled} packages compiled, now {line.strip()[-40:]}")
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        said = "\n  ".join(lines[-SHOWN_LINES:])
        raise LocalError(
            f"{tool.name} {tool.version} could not be built:\n  {said}",
            "If a module could not be fetched, set GOPROXY to one that this machine reaches; then run the command again.",
        )
    if tool.share:
        source = _module_directory(tool, go, environment)
        for name, path in tool.share.items():
            _copy(source / path, target / "share" / name)


def _module_directory(tool: Tool, go: Path, environment: dict[str, str]) -> Path:
    command = [str(go), "list", "-m", "-f", "{{.Dir}}", tool.share_module]
    done = subprocess.run(command, cwd=tool.sources, env=environment, capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def _copy(source: Path, target: Path) -> None:
    """The module cache is read-only, and the copy must not be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
        for directory in (target, *(path for path in target.rglob("*") if path.is_dir())):
            directory.chmod(0o755)
    else:
        shutil.copyfile(source, target)
