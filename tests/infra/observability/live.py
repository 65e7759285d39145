"""A Prometheus of one's own, with given samples and what the rules record of them."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from infra.wire import JsonObject
from local.toolchain import Tools
from tests.infra.observability.promtool import run

READY_SECONDS = 30


@dataclass(frozen=True)
class Curve:
    """One series: its labels, and its values by time in seconds."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Live:
    """A Prometheus that answers at ``address``."""

    address: str

    def curves(self, query: str, *, start: float, end: float, step: float) -> list[Curve]:
        """Every series of the answer; a query that Prometheus refuses fails with its words."""
        asked: dict[str, str | float] = {"query": query, "start": start, "end": end, "step": step}
        answer = httpx.get(f"{self.address}/api/v1/query_range", params=asked, timeout=30).json()
        assert answer["status"] == "success", f"{answer['error']}: {query}"
        return [
            Curve(series["metric"], tuple((float(at), float(value)) for at, value in series["values"]))
            for series in answer["data"]["result"]
        ]


def chosen(expression: str) -> str:
    """A query of the dashboard with Grafana's variables filled in."""
    for variable, value in {"$namespace": "llm", "${model}": "chat", "$__rate_interval": "5m"}.items():
        expression = expression.replace(variable, value)
    return expression


@contextmanager
def prometheus(tools: Tools, folder: Path, *, samples: str, spec: JsonObject, start: int, end: int) -> Iterator[Live]:
    """Serves the OpenMetrics text ``samples`` and what the recording rules of ``spec`` make of it from start to end."""
    source, rules, data = folder / "samples.txt", folder / "rules.yaml", folder / "data"
    source.write_text(samples)
    rules.write_text(json.dumps(spec))
    run(tools, "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(source), str(data))
    window = [f"--start={start}", f"--end={end}", "--eval-interval=30s", f"--output-dir={data}"]
    with _serving(tools, folder, data) as live:
        run(tools, "tsdb", "create-blocks-from", "rules", *window, f"--url={live.address}", str(rules))
    with _serving(tools, folder, data) as live:
        yield live


@contextmanager
def _serving(tools: Tools, folder: Path, data: Path) -> Iterator[Live]:
    configuration = folder / "prometheus.yaml"
    configuration.write_text("global: {}\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    options = [f"--config.file={configuration}", f"--storage.tsdb.path={data}", f"--web.listen-address={listen}"]
    with (folder / "prometheus.log").open("a") as log:
        process = subprocess.Popen([str(tools.prometheus), *options], stdout=log, stderr=log)
    try:
        _await(f"http://{listen}/-/ready", process)
        yield Live(f"http://{listen}")
    finally:
        process.terminate()
        process.wait()


def _await(address: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(address).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"Prometheus did not start within {READY_SECONDS} s: see its log")
