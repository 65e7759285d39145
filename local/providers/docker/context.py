"""The build context: which files go into a build, and one hash over all that decides what comes out."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Rule:
    """A line of `.dockerignore`: what it matches, and whether it brings files back (`!`)."""

    pattern: re.Pattern[str]
    brings_back: bool

    @classmethod
    def parse(cls, line: str) -> "Rule":
        brings_back = line.startswith("!")
        path = line.removeprefix("!").strip().strip("/")
        return cls(re.compile(_expression(path)), brings_back)


def rules(context: Path) -> list[Rule]:
    file = context / ".dockerignore"
    lines = file.read_text().splitlines() if file.exists() else []
    return [Rule.parse(line.strip()) for line in lines if line.strip() and not line.startswith("#")]


def files(context: Path) -> Iterator[Path]:
    """The files of the context that `.dockerignore` leaves in it, relative and in order."""
    known = rules(context)
    for directory, folders, names in os.walk(context):
        base = Path(directory).relative_to(context)
        if not any(rule.brings_back for rule in known):  # nothing below an ignored folder can come back
            folders[:] = [folder for folder in folders if not _ignored(base / folder, known)]
        elif base == Path():
            folders[:] = [
                folder for folder in folders if not _ignored(base / folder, known) or _may_come_back(folder, known)
            ]
        folders.sort()
        yield from (base / name for name in sorted(names) if not _ignored(base / name, known))


def digest(context: Path, dockerfile: Path, options: Mapping[str, object]) -> str:
    """Changes when a file, its name, its mode, the Dockerfile or an option does."""
    total = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    total.update(dockerfile.read_bytes())
    for path in files(context):
        file = context / path
        if file.is_symlink():
            content = os.fsencode(file.readlink())
        else:
            with file.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").digest()
        total.update(f"{path}\0{file.lstat().st_mode & 0o111}\0".encode() + content)
    return total.hexdigest()


def _ignored(path: Path, known: list[Rule]) -> bool:
    """The last rule that matches the path, or a folder it lies in, decides."""
    ignored = False
    names = [str(path), *(str(parent) for parent in path.parents if parent != Path())]
    for rule in known:
        if any(rule.pattern.fullmatch(name) for name in names):
            ignored = not rule.brings_back
    return ignored


def _may_come_back(folder: str, known: list[Rule]) -> bool:
    return any(
        rule.brings_back and re.match(rf"{re.escape(folder)}(/|$)|\[|\(|\.", rule.pattern.pattern) for rule in known
    )


def _expression(path: str) -> str:
    """Docker's patterns: `*` and `?` within a name, `**` over any number of folders."""
    out = ""
    index = 0
    while index < len(path):
        if path.startswith("**/", index):
            out, index = f"{out}(?:.*/)?", index + 3
        elif path.startswith("**", index):
            out, index = f"{out}.*", index + 2
        elif path[index] == "*":
            out, index = f"{out}[^/]*", index + 1
        elif path[index] == "?":
            out, index = f"{out}[^/]", index + 1
        else:
            out, index = out + re.escape(path[index]), index + 1
    return out
