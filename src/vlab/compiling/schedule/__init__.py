"""The schedule: fixed rules, deterministic, no tuning.

A computation of ours says which rule schedules it: `te.compute(..., attrs={"schedule_rule": NAME})`, an annotation that
survives fusion. Every other kernel goes to the general rule, which is made for elementwise ones. A kernel that its rule does
not fit, and one that reduces and has none, go there as well; one that no rule fits keeps its plain loops. All these are
reported, with the reason.
"""

from collections.abc import Callable
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import SBlock
from tvm_ffi import structural_walk

from vlab.compiling.foreign import said
from vlab.compiling.schedule import product, tiling
from vlab.compiling.schedule.convolution import convolution
from vlab.compiling.schedule.registers import ANNOTATION, Registers, UnfitError
from vlab.compiling.schedule.sliding import sliding
from vlab.records import Kernel

__all__ = ["ANNOTATION", "WRITTEN", "Registers", "UnfitError", "schedule_module"]

Rule = Callable[[Any, Registers], Any]
"""From a kernel (a PrimFunc) to the same one scheduled; raises UnfitError, or what TVM raises, where it does not apply."""

WRITTEN = "written"
"""Rule of a kernel that was written with its loops: it stays as it is."""

RULES: dict[str, Rule] = {
    "convolution": convolution,
    "sliding": sliding,
    product.RULE: product.schedule_product,
    WRITTEN: lambda function, _registers: function,
}
"""The rules that a computation can name."""


def schedule_module(module: Any, registers: Registers) -> tuple[Any, tuple[Kernel, ...]]:
    """Schedule every kernel of a Relax module.

    Returns:
        The module with scheduled kernels, and for each kernel, sorted by name, whether its rule applied.
    """
    functions, report = {}, []
    for variable, function in module.functions.items():
        functions[variable] = function
        if not isinstance(function, tirx.PrimFunc):
            continue
        scheduled, reason = _schedule(function, registers)
        scheduled = scheduled.without_attr("global_symbol")
        for key in function.attrs.keys():  # noqa: SIM118 - a TVM map iterates over items
            scheduled = scheduled.with_attr(key, function.attrs[key])
        functions[variable] = scheduled
        report.append(Kernel(name=variable.name_hint, scheduled=not reason, reason=reason))
    return tvm.IRModule(functions, attrs=module.attrs), tuple(sorted(report, key=lambda kernel: kernel.name))


def _schedule(function: Any, registers: Registers) -> tuple[Any, str]:
    """The kernel by the first rule that fits, and why those before it did not."""
    names = sorted(set(_rules(function)))
    rules = [(name, RULES[name]) for name in names if name in RULES]
    reasons: list[str] = []
    for name, rule in [*rules, ("general", tiling.general)]:
        try:
            scheduled = rule(function, registers)
        except UnfitError as error:
            if error.partly is not None:
                return error.partly, "; ".join([*reasons, f"{name}: {error}"])
            reasons.append(f"{name}: {error}")
        except (RuntimeError, ValueError, TypeError) as error:  # what TVM's bindings raise where a primitive does not apply
            reasons.append(f"{name}: {said(error)}")
        else:
            return scheduled, "; ".join(reasons)
    return function, "; ".join(reasons)


def _rules(function: Any) -> list[str]:
    """Names of the rules that a kernel without blocks, or the blocks of one, ask for."""
    names = [str(function.attrs[ANNOTATION])] if ANNOTATION in function.attrs else []

    def note(block: Any) -> None:
        if ANNOTATION in block.annotations:
            names.append(str(block.annotations[ANNOTATION]))

    structural_walk(function.body, (SBlock, note))
    return names
