"""From the start of the process to the first answer of /ready, beside what loading the model takes at the least."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.measures.setting import Report, Samples, Setting
from bench.processes import BenchError, serving

READY, LOADED = "to /ready", "to a loaded model"
# The same weights in the same type; the end of the interpreter does not count.
LOAD = """
import sys, torch, transformers
transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
print("loaded", flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Start:
    async def measure(self, setting: Setting, report: Report) -> Samples:
        samples: Samples = {READY: [], LOADED: []}
        _load(setting.model)  # brings the files into the page cache
        for run in range(1, setting.runs + 1):
            report(f"run {run} of {setting.runs}")
            samples[LOADED].append(_load(setting.model))
            with serving(setting.ours("float32"), setting.log("ours")) as server:
                samples[READY].append(server.start_seconds)
        return samples


def _load(model: Path) -> float:
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", LOAD, str(model)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        seconds = time.perf_counter() - began
    if said.strip() != "loaded":
        raise BenchError("the model cannot be loaded by transformers alone")
    return seconds
