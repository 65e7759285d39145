"""The keys of a chart's own values, kept as data, so that a value which no chart knows is found without the charts.

One file per chart and version in `charts/`, one key per line; what follows the key says what may stand there:

    {}          any mapping: the chart's own is empty, or hands it on as it is
    []          a list
    ~           anything: the chart's own is null, or only its templates name the key
    = VALUE     a text that begins with a registry's host, which is VALUE in the chart
    (nothing)   one value

Made from a chart's archive, as `helm pull` leaves it, by

    python -m tests.infra.platform.chart_keys CHART.tgz "where it is from"
"""

import re
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "charts"
MAPPING, LIST, ANYTHING, SCALAR = "{}", "[]", "~", ""
REGISTRY = re.compile(r"([\w-]+\.)+[a-z]+(/[\w./-]+)?")
IMAGE_KEYS = ("registry", "repository")
REFERENCE = re.compile(r"\.Values\.([\w.]*\w)")


@dataclass(frozen=True)
class ChartKeys:
    """What may stand under which dotted path, and the paths that name a registry."""

    kinds: Mapping[str, str]
    registries: Mapping[str, str]

    @classmethod
    def read(cls, chart: str, version: str) -> "ChartKeys":
        kinds: dict[str, str] = {}
        registries: dict[str, str] = {}
        for line in (FOLDER / f"{chart}-{version}.txt").read_text().splitlines():
            path, _, kind = line.partition(" ")
            if path == "#":
                continue
            if kind.startswith("= "):
                registries[path] = kind.removeprefix("= ")
                kind = SCALAR
            kinds[path] = kind
        return cls(kinds, registries)

    def unknown(self, values: Mapping[str, Any], under: str = "") -> list[str]:
        """The paths of ``values`` that the chart does not have, or has for something else."""
        found: list[str] = []
        for key, value in values.items():
            path = f"{under}{_escaped(key)}"
            kind = self.kinds.get(path)
            if kind == ANYTHING or (kind == MAPPING and isinstance(value, Mapping)):
                continue
            if kind is None and isinstance(value, Mapping) and value:
                found += self.unknown(value, f"{path}.")
            elif kind is None or (kind == LIST) != isinstance(value, list) or isinstance(value, Mapping):
                found.append(path)
        return found


def _escaped(key: str) -> str:
    return key.replace(".", r"\.")


def _lines(values: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        path = f"{under}{_escaped(str(key))}"
        if isinstance(value, dict) and value:
            yield from _lines(value, f"{path}.")
        elif isinstance(value, dict):
            yield path, MAPPING
        elif isinstance(value, list):
            yield path, LIST
        elif value is None:
            yield path, ANYTHING
        elif key in IMAGE_KEYS and isinstance(value, str) and REGISTRY.fullmatch(value):
            yield path, f"= {value}"
        else:
            yield path, SCALAR


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        inner = both.get(key)
        both[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return both


def _chart(files: Mapping[str, str], root: str) -> tuple[dict[str, Any], set[str]]:
    """The values of the chart under ``root`` with those of its subcharts, and the paths that templates name."""
    description = yaml.safe_load(files[f"{root}Chart.yaml"])
    own = yaml.safe_load(files.get(f"{root}values.yaml", "")) or {}
    named = {
        match
        for name, text in files.items()
        if name.startswith(f"{root}templates/")
        for match in REFERENCE.findall(text)
    }
    values: dict[str, Any] = {}
    for dependency in description.get("dependencies", []):
        key, folder = dependency.get("alias", dependency["name"]), f"{root}charts/{dependency['name']}/"
        if f"{folder}Chart.yaml" in files:
            inner, references = _chart(files, folder)
            values[key] = inner
            named |= {f"{key}.{path}" for path in references if not path.startswith("global")}
    return _merged(values, own), named


def write(archive: Path, source: str) -> Path:
    """The data file of a chart's archive."""
    with tarfile.open(archive) as tar:
        files = {
            member.name.partition("/")[2]: content.read().decode(errors="replace")
            for member in tar
            if member.name.endswith((".yaml", ".yml", ".tpl", ".txt")) and (content := tar.extractfile(member))
        }
    description = yaml.safe_load(files["Chart.yaml"])
    values, named = _chart(files, "")
    keys = dict(_lines(values))
    inner = {path.rpartition(".")[0] for path in keys} | set(keys)
    for path in sorted(named):
        # What lies under a key that may hold anything, or above one that is known, is known already.
        above = {path[: dot.start()] for dot in re.finditer(r"\.", path)}
        if path not in inner and not above & set(keys) and not any(key.startswith(f"{path}.") for key in keys):
            keys[path] = ANYTHING
    lines = [f"{path} {kind}".rstrip() for path, kind in sorted(keys.items())]
    target = FOLDER / f"{description['name']}-{description['version']}.txt"
    target.write_text("\n".join([f"# {description['name']} {description['version']}, {source}", *lines, ""]))
    return target


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), sys.argv[2]))
