"""The machine a run was made on, as far as it tells."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from pydantic import Field

from vlab import settings
from vlab.measuring import machine
from vlab.records import Record
from vlab.targets import Target

_PACKAGES = ("apache-tvm", "onnx", "onnxruntime", "ai-edge-litert", "numpy")
_TOOLS = ("gcc", "aarch64-linux-gnu-gcc", "riscv64-linux-gnu-gcc", "arm-none-eabi-gcc", "qemu-aarch64", "qemu-system-arm")


class Machine(Record):
    """Hardware, system and software of a run."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    governor: str = Field(description="of the measured core; empty where the system does not tell")
    target: str = Field(description="what executables for this machine were compiled for")
    python: str
    packages: dict[str, str]
    tools: dict[str, str] = Field(description="first line of --version; without the ones that are missing")


def describe(core: int, host: Target) -> Machine:
    """This machine.

    Args:
        core: that times are measured on.
        host: target of executables for this machine.
    """
    seen = machine.describe(host, load_avg_start=0.0)
    return Machine(
        cpu=seen.cpu,
        cores=os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        system=f"{seen.os} {seen.machine}",
        governor=_governor(core),
        target=host.name,
        python=platform.python_version(),
        packages={name: importlib.metadata.version(name) for name in _PACKAGES},
        tools={name: version for name in _TOOLS if (version := _version(name))},
    )


def commit() -> str:
    """The checkout's commit, with `+` where files differ from it; `unknown` without git."""
    root = settings.checkout()
    try:
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "src", "targets", "benchmarks"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _governor(core: int) -> str:
    path = Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _version(program: str) -> str:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ""
    return done.stdout.partition("\n")[0].strip()
