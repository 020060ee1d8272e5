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
from vlab.targets import Target

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
        TargetError: no known target runs natively here.
        CompileError: LLVM does not know this CPU, or cannot be asked.
    """
    native = [target for target in targets.known().values() if target.native]
    if not native:
        raise TargetError(f"no target runs natively on this machine ({platform.machine()}), so its own CPU can be none either")
    done = processes.run_limited([sys.executable, "-m", "vlab.compiling.own_cpu", native[0].lower.mtriple], timeout_s=_LIMIT_S)
    if done.returncode:
        raise CompileError(f"LLVM could not be asked for the name of this CPU: {done.last_words}")
    cpu, expected = json.loads(done.stdout)
    base = max((one for one in native if one.lower.mcpu != cpu), key=lambda one: (one.lanes, one.accumulators))
    if cpu in _UNKNOWN:
        raise CompileError(f"LLVM knows this machine's CPU only as {cpu!r}; take {base.name}, which runs here")
    family, _, name = base.name.partition("/")
    path = folder / family / f"{cpu}{'-linux' if name.endswith('-linux') else ''}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_toml(base, cpu, expected if base.machine == "x86_64" else [])), encoding="utf-8")
    targets.read(path)
    return path


def _toml(base: Target, cpu: str, expected: list[str]) -> Iterator[str]:
    """The lines of the file. JSON's strings, numbers and arrays of them are TOML's."""
    here = {_plain(feature): feature for feature in sorted(targets.cpu_features())}
    vectors = sorted(feature for feature in expected if feature.startswith(_VECTORS))
    present = [here[_plain(feature)] for feature in vectors if _plain(feature) in here]
    hidden = [f"-{feature}" for feature in vectors if _plain(feature) not in here]
    yield f"description = {json.dumps(f'this kind of CPU: {base.machine} as LLVM knows it by the name {cpu}')}"
    yield f"machine = {json.dumps(base.machine)}"
    yield f"isa = {json.dumps(cpu)}"
    yield f"cpu_features = {json.dumps(sorted({*base.cpu_features, *present}))}"
    yield f"lanes = {base.lanes}"
    yield f"accumulators = {base.accumulators}"
    for table, options in (("lower", base.lower), ("emit", base.emit)):
        if options:
            named = {key.replace("-", "_"): value for key, value in options.options().items() if key != "kind"}
            named["mcpu"] = cpu
            named["mattr"] = [*options.mattr, *hidden]
            yield from ("", f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in named.items()))
    yield from ("", "[compiler]")
    yield from (f"{key} = {json.dumps(value)}" for key, value in base.compiler.model_dump(mode="json").items())
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
