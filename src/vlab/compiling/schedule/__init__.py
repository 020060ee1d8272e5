"""The schedule: fixed rules, deterministic, no tuning.

A kernel no rule fits keeps its plain loops and is reported with the reason.
"""

from typing import Any

import tvm
from tvm import tirx

from vlab.compiling.foreign import said
from vlab.compiling.schedule.registers import Registers
from vlab.compiling.schedule.tiling import Rule
from vlab.records import Kernel

__all__ = ["Registers", "schedule_module"]


def schedule_module(module: Any, registers: Registers) -> tuple[Any, tuple[Kernel, ...]]:
    """Schedule every kernel of a Relax module.

    Returns:
        The module with scheduled kernels, and for each kernel, sorted by name, whether the rule applied.
    """
    functions, report = {}, []
    for variable, function in module.functions.items():
        functions[variable] = function
        if not isinstance(function, tirx.PrimFunc):
            continue
        try:
            scheduled = Rule(function, registers).apply().without_attr("global_symbol")
        except (RuntimeError, ValueError, TypeError) as error:  # what TVM's bindings raise where a primitive does not apply
            report.append(Kernel(name=variable.name_hint, scheduled=False, reason=said(error)))
            continue
        for key in function.attrs.keys():  # noqa: SIM118 - a TVM map iterates over items
            scheduled = scheduled.with_attr(key, function.attrs[key])
        functions[variable] = scheduled
        report.append(Kernel(name=variable.name_hint, scheduled=True))
    return tvm.IRModule(functions, attrs=module.attrs), tuple(sorted(report, key=lambda kernel: kernel.name))
