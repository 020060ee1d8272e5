"""What is missing on this machine for running a lab, and the command that brings it.

for finding in examine():
    if finding.required and not finding.ok:
        print(finding.name, finding.remedy)
"""

import importlib.util
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlab import processes, targets
from vlab.errors import VlabError
from vlab.settings import Settings

MIN_PYTHON = (3, 11)
MIN_FREE_BYTES = 3 << 30
"""For the state of a lab: databases, compile cache, artifacts."""

PORTS = ("Prefect", "MLflow", "the Sigstore instance", "the chain")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    required: bool
    """Whether a local lab does not run without it."""
    detail: str
    """What was found."""
    remedy: str = ""
    """The command that brings it, or what to do."""


def examine(own_ports: frozenset[int] = frozenset()) -> list[Finding]:
    """Look at everything; a broken thing becomes a finding, never an error.

    Args:
        own_ports: ports that the services of this lab hold now.
    """
    settings = Settings.from_environment()
    return [_python(), *_packages(), *_tools(), *_emulators(), _anvil(), _disk(settings.home), *_ports(settings, own_ports)]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, MIN_PYTHON))
    return Finding(
        "python", sys.version_info >= MIN_PYTHON, True, f"{version} (needs {wanted})", f"make setup PYTHON=python{wanted}"
    )


def _packages() -> Iterator[Finding]:
    """The heavy libraries, without importing them."""
    for module in ("prefect", "mlflow", "tvm", "onnxruntime", "sigstore", "web3", "eth_tester"):
        spec = importlib.util.find_spec(module)
        found = spec is not None and spec.origin is not None  # a folder of that name has no origin
        yield Finding(f"package {module}", found, True, "installed" if found else "not installed", "make setup")


def _tools() -> Iterator[Finding]:
    """Compilers and emulators of every target that this machine can have boards of; a lab runs without microcontrollers."""
    try:
        known = targets.known()
    except VlabError as error:
        yield Finding("targets", False, True, str(error), "correct the file, or take it from the project again")
        return
    possible = [target for target in known.values() if target.native or target.emulated]
    tools = {tool.program: tool for target in possible for tool in target.tools}
    needed = {tool.program for target in possible if not target.firmware for tool in target.tools}
    for program, tool in sorted(tools.items()):
        path = shutil.which(program)
        yield Finding(program, path is not None, program in needed, path or "not on PATH", f"sudo {tool.install_command}")
    compiler = shutil.which("cc") or shutil.which("gcc")
    install = "sudo apt-get install --no-install-recommends gcc libc6-dev"
    yield Finding("cc", compiler is not None, True, compiler or "not on PATH", install)


def _emulators() -> Iterator[Finding]:
    """Whether the installed emulators load plugins, with which instructions are counted fast; static builds do not."""
    try:
        known = targets.known()
    except VlabError:
        return  # _tools has said so
    programs = {target.emulator.program for target in known.values() if target.emulated and target.emulator}
    for program in sorted(programs):
        path = shutil.which(program)
        if path is None:
            continue
        version, options = _said(path, "--version"), _said(path, "-help")
        loads = "-plugin" in options
        way = "by plugin" if loads else "out of its log: exact, but slow"
        yield Finding(
            f"{program} plugins",
            loads,
            False,
            f"{version.strip().partition(chr(10))[0]}: counts instructions {way}",
            "for fast counting a dynamically linked QEMU, as in Debian 12, or one built with --enable-plugins",
        )


def _anvil() -> Finding:
    path = shutil.which("anvil")
    return Finding(
        "anvil",
        path is not None,
        False,
        path or "not on PATH; the built-in chain is used",
        "install Foundry to get a faster chain",
    )


def _disk(home: Path) -> Finding:
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    detail = f"{free / (1 << 30):.1f} GiB free for {home} (needs {MIN_FREE_BYTES >> 30})"
    return Finding("disk", free >= MIN_FREE_BYTES, True, detail, "free space, or set VLAB_HOME to a larger disk")


def _ports(settings: Settings, own: frozenset[int]) -> Iterator[Finding]:
    """Whether the ports are free, or taken by the lab of these settings."""
    for offset, service in enumerate(PORTS):
        port = settings.port_base + offset
        with socket.socket() as probe:
            taken = port not in own and probe.connect_ex(("127.0.0.1", port)) == 0
        detail = f"{service} of this lab" if port in own else f"in use by another program; {service} needs it"
        yield Finding(
            f"port {port}",
            not taken,
            False,
            detail if taken or port in own else f"free for {service}",
            "stop what listens there, or choose other ports for a new lab: VLAB_PORT_BASE=5200 vlab up",
        )


def _said(program: str, option: str) -> str:
    """What a program prints for an option; empty if it does not run."""
    try:
        done = processes.run_limited([program, option], timeout_s=10)
    except VlabError:
        return ""
    return done.stdout.decode(errors="replace") + done.stderr
