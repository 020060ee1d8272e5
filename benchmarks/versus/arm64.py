"""ONNX Runtime's own aarch64 build under QEMU; `python -m benchmarks.versus.arm64` fetches it, or says what is missing.

The wheel is the one that requirements/lab.txt pins, by digest. Debian's cross libraries are its root file system; beside them
stand a /proc/cpuinfo and a /sys of one emulated processor, because ONNX Runtime reads them and QEMU would show the host's.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

from benchmarks.versus import building
from vlab import processes, settings
from vlab.errors import MissingToolError
from vlab.targets import Target

_LIBRARIES = Path("/usr/aarch64-linux-gnu/lib")
_PACKAGES = ("libc6-arm64-cross", "libstdc++6-arm64-cross", "qemu-user")
_PLATFORM = "aarch64-manylinux_2_28"
_PARTS = {
    "cortex-a53": 0xD03,
    "cortex-a55": 0xD05,
    "cortex-a72": 0xD08,
    "cortex-a76": 0xD0B,
    "neoverse-n1": 0xD0C,
    "max": 0xD0C,
}
"""Part numbers of Arm's processors in MIDR_EL1, from their manuals; QEMU's own processor has none and takes the N1's."""
_FETCH_LIMIT_S = 600


def library(scratch: Path) -> Path:
    """ONNX Runtime for aarch64.

    Raises:
        MissingToolError: it is not here; names the command that fetches it.
    """
    package = _wheel(scratch) / "onnxruntime"
    if not package.is_dir():
        raise MissingToolError("ONNX Runtime's aarch64 wheel is not here; fetch it with: python -m benchmarks.versus.arm64")
    return building.library_in(package)


def emulated(target: Target, scratch: Path) -> Target:
    """The target with an emulator that also runs dynamic programs, and shows them the emulated processor.

    Raises:
        MissingToolError: the libraries are not installed; names the command that installs them.
    """
    if not (_LIBRARIES / "libstdc++.so.6").is_file():
        raise MissingToolError(f"{_LIBRARIES} has no libstdc++.so.6; install it with: {_install_command()}")
    emulator = target.emulator
    if emulator is None or "-cpu" not in emulator.args:
        raise MissingToolError(f"{target.name} names no emulated processor; add -cpu to the emulator's args in its file")
    root = _root(scratch, emulator.args[emulator.args.index("-cpu") + 1])
    return target.model_copy(update={"emulator": emulator.model_copy(update={"args": (*emulator.args, "-L", str(root))})})


def fetch(scratch: Path) -> None:
    """Fetch the pinned wheel and unpack it.

    Raises:
        MissingToolError: it could not be fetched.
    """
    place = _wheel(scratch)
    place.mkdir(parents=True, exist_ok=True)
    pin = place / "pin.txt"
    pin.write_text(_pin((settings.checkout() / "requirements" / "lab.txt").read_text(encoding="utf-8")), encoding="utf-8")
    uv = Path(sys.executable).with_name("uv")
    argv = [
        uv if uv.is_file() else "uv",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--only-binary",
        ":all:",
    ]
    done = processes.run_limited(
        [*argv, "--python-platform", _PLATFORM, "--target", place, "-r", pin], timeout_s=_FETCH_LIMIT_S, cwd=place
    )
    if done.returncode:
        raise MissingToolError(f"the aarch64 wheel could not be fetched: {done.last_words}")


def _pin(requirements: str) -> str:
    """The lines of ONNX Runtime in a file of pinned requirements: version and digests."""
    found = re.search(r"^onnxruntime==[^\n]*\\\n(?:    --hash=[^\n]*\n)+", requirements, re.MULTILINE)
    if not found:
        raise MissingToolError("requirements/lab.txt pins no onnxruntime with digests; write it again with: make requirements")
    return re.sub(r" ;[^\\\n]*", " ", found[0])


def _wheel(scratch: Path) -> Path:
    return scratch / "onnxruntime-aarch64"


def _install_command() -> str:
    return f"apt-get install --no-install-recommends {' '.join(_PACKAGES)}"


def _root(scratch: Path, cpu: str) -> Path:
    """A root for the emulator: it looks there for absolute paths first."""
    if cpu not in _PARTS:
        raise MissingToolError(f"the emulated processor {cpu} is unknown here; expected one of: {', '.join(_PARTS)}")
    root = scratch / f"root-{cpu}"
    shutil.rmtree(root, ignore_errors=True)
    (root / "proc").mkdir(parents=True)
    (root / "lib").symlink_to(_LIBRARIES)
    (root / "proc" / "cpuinfo").write_text(
        "processor\t: 0\nBogoMIPS\t: 100.00\nFeatures\t: fp asimd evtstrm cpuid\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {_PARTS[cpu]:#x}\nCPU revision\t: 0\n\n",
        encoding="ascii",
    )
    cpus = root / "sys" / "devices" / "system" / "cpu"
    topology = cpus / "cpu0" / "topology"
    topology.mkdir(parents=True)
    lists = ("core_siblings_list", "package_cpus_list", "cluster_cpus_list", "thread_siblings_list")
    shown = [cpus / name for name in ("kernel_max", "possible", "present", "online")]
    shown += [topology / name for name in ("physical_package_id", "core_id", "cluster_id", *lists)]
    for path in shown:
        path.write_text("0\n", encoding="ascii")
    return root


def main() -> None:
    """Fetch what can be fetched, and say what must be installed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versus.arm64", description="Fetch ONNX Runtime for aarch64.")
    parser.add_argument("--scratch", type=Path, default=Path("build/benchmarks"), help="the benchmark's directory")
    scratch = parser.parse_args().scratch.absolute()
    print(f"needed from Debian: {_install_command()}")
    try:
        fetch(scratch)
        print(library(scratch))
    except MissingToolError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
