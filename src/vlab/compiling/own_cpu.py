"""A target for this machine's own CPU, under the name that LLVM has for it.

    path = write_target(Path("targets"))       # targets/host/znver5.toml; `targets.read` and everything else take it from there

LLVM takes `native` for an unknown CPU and builds for a generic one, so it is asked for the name, in a process of its own, for
TVM asks it, and the name is written down: what is compiled for the target depends on the file, not on where it was compiled.
"""

import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from vlab import processes, targets
from vlab.errors import CompileError, TargetError
from vlab.targets import Llvm, Target

_UNKNOWN = frozenset({"", "generic", "x86-64", "i686"})
"""What LLVM calls a CPU it does not know."""
_VECTORS = ("avx", "bmi", "f16c", "fma", "gfni", "vaes", "vpclmul")
"""Features of x86 that kernels may use and that a hypervisor may hide."""
_LIMIT_S = 60


def write_target(folder: Path) -> Path:
    """Write the target of this machine's CPU into a folder of targets, FAMILY/CPU.toml, in place of an earlier one.

    It is the largest of the known targets that run natively here, with the CPU's own name. Features of x86 that LLVM expects of
    such a CPU and that this machine lacks are switched off; those it has are what a board must have.

    Returns:
        The file.

    Raises:
        TargetError: no known target runs natively here, or one is of this CPU already.
        CompileError: LLVM does not know this CPU, or cannot be asked.
    """
    native = [target for target in targets.known().values() if target.native]
    if not native:
        raise TargetError(f"no target runs natively on this machine ({platform.machine()}), so its own CPU can be none either")
    done = processes.run_limited([sys.executable, "-m", "vlab.compiling.own_cpu", native[0].lower.mtriple], timeout_s=_LIMIT_S)
    if done.returncode:
        raise CompileError(f"LLVM could not be asked for the name of this CPU: {done.last_words}")
    cpu, expected = json.loads(done.stdout)
    if known := [one for one in native if one.lower.mcpu == cpu and not (folder / f"{one.name}.toml").exists()]:
        raise TargetError(f"this machine's CPU, {cpu}, is the target {known[0].name} already")
    base = max((one for one in native if one.lower.mcpu != cpu), key=lambda one: (one.lanes, one.accumulators))
    if cpu in _UNKNOWN:
        raise CompileError(f"LLVM knows this machine's CPU only as {cpu!r}; take {base.name}, which runs here")
    target = _named(base, cpu, expected if base.machine == "x86_64" else [])
    path = folder / f"{target.name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_toml(target)), encoding="utf-8")
    return path


def _named(base: Target, cpu: str, expected: list[str]) -> Target:
    """The target of a CPU of that name, of which LLVM expects these features."""
    here = {_plain(feature): feature for feature in sorted(targets.cpu_features())}
    vectors = sorted(feature for feature in expected if feature.startswith(_VECTORS))
    hidden = [f"-{feature}" for feature in vectors if _plain(feature) not in here]
    present = [here[_plain(feature)] for feature in vectors if _plain(feature) in here]

    def renamed(options: Llvm | None) -> Llvm | None:
        return options and options.model_copy(update={"mcpu": cpu, "mattr": (*options.mattr, *hidden)})

    family, _, name = base.name.partition("/")
    return base.model_copy(
        update={
            "name": f"{family}/{cpu}{'-linux' if name.endswith('-linux') else ''}",
            "description": f"{base.machine} CPU that LLVM knows by the name {cpu}",
            "isa": cpu,
            "cpu_features": tuple(sorted({*base.cpu_features, *present})),
            "lower": renamed(base.lower),
            "emit": renamed(base.emit),
            "emulator": None,
        }
    )


def _toml(target: Target) -> Iterator[str]:
    """The lines of a target's file. JSON's strings, numbers and arrays of them are TOML's."""
    record = target.model_dump(mode="json", exclude={"name"}, exclude_none=True)
    tables = {key: record.pop(key) for key, value in list(record.items()) if isinstance(value, dict)}
    yield from (f"{key} = {json.dumps(value)}" for key, value in record.items())
    for name, table in tables.items():
        yield from ("", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items()))
    yield ""


def _plain(feature: str) -> str:
    """A feature's name where LLVM and Linux agree: they differ in dots, hyphens and underscores, and Linux counts the first."""
    return feature.translate(str.maketrans("", "", "._-")).replace("bmi1", "bmi")


def _ask(mtriple: str) -> None:
    """Print LLVM's name of this CPU and the features it expects of it, as JSON."""
    import tvm
    from tvm.target import codegen

    cpu = str(codegen.llvm_get_system_cpu())
    options = {"kind": "llvm", "mtriple": mtriple, **({} if cpu in _UNKNOWN else {"mcpu": cpu})}
    print(json.dumps([cpu, sorted(map(str, codegen.llvm_get_cpu_features(tvm.target.Target(options))))]))


if __name__ == "__main__":
    _ask(sys.argv[1])
