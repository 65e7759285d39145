"""On what something was measured."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

# What a CPU must have to multiply in bfloat16 itself; others convert, and are slower with it than with float32.
NATIVE_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")
GIBIBYTE_KIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Machine:
    cpu: str
    cores: int
    memory_gib: float
    bfloat16: str | None
    """The instructions that multiply in bfloat16, or None."""


def describe() -> Machine:
    """This machine."""
    information = _table(Path("/proc/cpuinfo"))
    flags = information.get("flags", information.get("Features", "")).split()
    cpu = information.get("model name", platform.processor() or platform.machine())
    family = ", ".join(f"{name} {information[name]}" for name in ("cpu family", "model") if name in information)
    return Machine(
        cpu=f"{cpu} ({family})" if family else cpu,
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(int(_table(Path("/proc/meminfo"))["MemTotal"].split()[0]) / GIBIBYTE_KIB, 1),
        bfloat16=next((flag for flag in NATIVE_BFLOAT16 if flag in flags), None),
    )


def busy_cores(seconds: float = 1.0) -> float:
    """How many cores other work takes, seen for so long in which the caller does nothing."""
    before, began = _busy_seconds(), time.monotonic()
    time.sleep(seconds)
    return round((_busy_seconds() - before) / (time.monotonic() - began), 2)


def _busy_seconds() -> float:
    """Of all cores since the machine's start, other guests' included (steal)."""
    user, nice, system, _, _, interrupts, soft, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + interrupts + soft + steal) / os.sysconf("SC_CLK_TCK")


def _table(file: Path) -> dict[str, str]:
    """``name: value`` lines; of several with the same name, the first."""
    rows: dict[str, str] = {}
    for line in file.read_text().splitlines():
        name, _, value = line.partition(":")
        rows.setdefault(name.strip(), value.strip())
    return rows
