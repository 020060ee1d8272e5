"""What can be seen of the machine that runs an artifact."""

import os
import platform
from pathlib import Path

from vlab.measuring.counting import emulator_version
from vlab.records import Environment
from vlab.targets import Target


def describe(target: Target, *, load_avg_start: float) -> Environment:
    """The machine after a measurement; under emulation it is the machine the emulator runs on.

    Args:
        target: says whether an emulator is involved.
        load_avg_start: one-minute load average before the measurement.
    """
    return Environment(
        machine=platform.machine(),
        os=f"{platform.system()} {platform.release()}",
        cpu=_cpu_name(),
        emulator=emulator_version(target.emulator) if target.emulated and target.emulator else "",
        load_avg_start=load_avg_start,
        load_avg_end=load_average(),
    )


def load_average() -> float:
    """One-minute load average."""
    return round(os.getloadavg()[0], 2)


def stolen_share(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Share of all CPU time between two readings of `cpu_ticks` that the hypervisor gave to others."""
    total = after[1] - before[1]
    return (after[0] - before[0]) / total if total > 0 else 0.0


def cpu_ticks() -> tuple[int, int]:
    """Stolen and total ticks of all CPUs since boot (proc(5), /proc/stat)."""
    fields = [int(field) for field in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    return (fields[7] if len(fields) == 8 else 0), sum(fields)


def _cpu_name() -> str:
    """Name of the CPU as Linux tells it; which key holds it depends on the architecture."""
    keys = ("model name", "Model", "uarch", "cpu model", "isa", "CPU part")
    known: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        known.setdefault(key.strip(), value.strip())
    return next((known[key] for key in keys if known.get(key)), "unknown")
