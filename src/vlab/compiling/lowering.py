"""Relax module → scheduled kernels as functions over raw pointers, and a main function that is a flat list of calls."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import tvm
from tvm import relax, s_tir, tirx
from tvm.ir import Call
from tvm_ffi import structural_walk

from vlab.compiling import workload
from vlab.compiling.constants import fold_constants
from vlab.compiling.expressions import bindings, operator
from vlab.compiling.holding import hold, release
from vlab.compiling.integer import ToIntegers
from vlab.compiling.kernels import approximating
from vlab.compiling.kernels.convolution import conv2d
from vlab.compiling.kernels.opaque import plain_kernels
from vlab.compiling.kernels.pooling import pool2d, reduction
from vlab.compiling.kernels.products import legalise_products
from vlab.compiling.kernels.quantising import quantize
from vlab.compiling.kernels.recognising import recognise
from vlab.compiling.kernels.rows import legalise_rows
from vlab.compiling.kernels.transposed import conv2d_transpose
from vlab.compiling.kernels.unit_height import join, widen
from vlab.compiling.lineage import Lineage
from vlab.compiling.naming import name_in_memory
from vlab.compiling.schedule import Registers, schedule_module
from vlab.compiling.schedule.parallel import share_out, shared_out
from vlab.records import Kernel, KernelCall
from vlab.targets import Target

_WORKSPACE_ALIGNMENT = 64
_LARGEST_ON_STACK = 1024
"""Bytes of a local buffer; all that a kernel has are to fit a microcontroller's stack."""


@dataclass(frozen=True)
class Lowered:
    """A model ready for code generation."""

    main: Any
    """Relax function that holds kernel calls, planned memory and aliases only."""
    kernels: Any
    """Module of the kernels that `main` calls, as C functions."""
    workspace_bytes: dict[str, int]
    """Upper bound of the temporary memory of each kernel, by symbol."""
    task_workspace_bytes: dict[str, int]
    """The part of it that each further thread needs of its own; only of kernels whose loops threads share."""
    report: tuple[Kernel, ...]
    """Each called kernel, and whether the schedule applied."""
    calls: dict[str, KernelCall]
    """What each kernel call of `main` has to do, by the name of the variable that its result is bound to."""
    operations: int
    """Estimate of the arithmetic operations in one inference."""


def lower(module: Any, nodes: Mapping[str, str], target: Target, threads: int) -> Lowered:
    """Fold, lay out as NHWC, fuse, schedule, plan memory and lower to raw pointers.

    Args:
        module: the model in Relax.
        nodes: names of the model's nodes by the name of the variable in `main` that holds their result.
        target: what to lower for.
        threads: that share the loops of large kernels.
    """
    approximating.register()
    machine = tvm.target.Target(target.lower.options())
    registers = Registers(target.lanes, target.accumulators, target.registers, target.scalar_factors)
    lineage = Lineage(nodes)
    integers = ToIntegers(target)
    module = _fold(lineage.follow(lineage.begin(module), [widen, integers]), lineage)
    with machine, tvm.transform.PassContext(opt_level=3):
        module = lineage.follow(
            module, [recognise, partial(legalise_products, registers=registers), partial(legalise_rows, registers=registers)]
        )
        module = _fuse(module, registers, lineage)
        calls = workload.calls(module, lineage)
        operations = _operations(module)
        module, report = schedule_module(module, registers)
        report = integers.explained(report)
        module = _plan(module)
        called = _called(module["main"])
        kernels = _lower_kernels(
            {symbol(gv.name_hint): function for gv, function in module.functions.items() if gv.name_hint in called},
            machine,
            threads,
        )
    bodies = {str(function.attrs["global_symbol"]): function.body for function in kernels.functions.values()}
    workspace = {name: _workspace_bytes([body]) for name, body in bodies.items()}
    tasks = {name: _workspace_bytes(loops) for name, body in bodies.items() if (loops := shared_out(body))}
    kept = tuple(
        kernel.model_copy(update={"workspace_bytes": workspace[symbol(kernel.name)]})
        for kernel in report
        if kernel.name in called
    )
    return Lowered(module["main"], kernels, workspace, tasks, kept, calls, operations)


def symbol(kernel: str) -> str:
    """Name of a kernel's function in C; kernels are called after operators, among them log and exp of the C library."""
    return f"kernel_{kernel}"


def emit_object(lowered: Lowered, target: Target) -> Any:
    """Machine code of the kernels, as a TVM module that writes an object file."""
    machine = tvm.target.Target((target.emit or target.lower).options())
    hosted = machine.with_host(machine)
    functions = {gv: function.with_attr("target", hosted) for gv, function in lowered.kernels.functions.items()}
    return tvm.get_global_func("target.build.llvm")(tvm.IRModule(functions), machine)


def _fold(module: Any, lineage: Lineage) -> Any:
    passes = relax.transform
    return lineage.follow(
        module,
        [
            passes.DecomposeOpsForInference(),
            passes.CanonicalizeBindings(),
            fold_constants,
            join,
            passes.CanonicalizeBindings(),
            passes.FoldConstant(),
            # Pooling follows the convolutions by itself; naming it here is an error.
            passes.ConvertLayout({"relax.nn.conv2d": ["NHWC", "HWIO"], "relax.nn.conv2d_transpose": ["NHWC", "IOHW"]}),
            passes.CanonicalizeBindings(),
            fold_constants,
            passes.FoldConstant(),
            passes.CanonicalizeBindings(),
            passes.DeadCodeElimination(),
        ],
    )


def _fuse(module: Any, registers: Registers, lineage: Lineage) -> Any:
    passes = relax.transform
    return lineage.follow(
        module,
        [
            passes.LegalizeOps(_legalisations(registers)),
            plain_kernels,
            passes.AnnotateTIROpPattern(),
            passes.FoldConstant(),
            passes.FuseOps(),
            passes.FuseTIR(),
            passes.DeadCodeElimination(),
            passes.RewriteDataflowReshape(),  # recognises reshapes by the loops they have before they are scheduled
        ],
    )


def _legalisations(registers: Registers) -> dict[str, Callable[[Any, Any], Any]]:
    """What becomes of a Relax operator, by its name, where that is not TVM's own choice."""
    return {
        "relax.nn.conv2d": lambda builder, call: conv2d(builder, call, registers),
        "relax.nn.conv2d_transpose": lambda builder, call: conv2d_transpose(builder, call, registers),
        "relax.nn.max_pool2d": pool2d,
        "relax.nn.avg_pool2d": pool2d,
        "relax.mean": reduction,
        "relax.sum": reduction,
        "relax.quantize": quantize,
    }


def _operations(module: Any) -> int:
    """Operations of one inference; kernels that TVM cannot estimate count as none."""
    total = 0.0
    for binding in bindings(module["main"]):
        value = binding.value
        if operator(value) == "relax.call_tir":
            with suppress(RuntimeError):
                total += s_tir.analysis.estimate_tir_flops(tvm.IRModule({"main": module[value.args[0]]}))
    return int(total)


def _plan(module: Any) -> Any:
    passes = relax.transform
    return tvm.transform.Sequential(
        [
            passes.ToNonDataflow(),
            passes.RemovePurityChecking(),
            passes.CallTIRRewrite(),
            passes.StaticPlanBlockMemory(),
        ]
    )(module)


def _called(main: Any) -> set[str]:
    """Names of the kernels that main still calls; folding leaves others behind."""
    values = [binding.value for binding in bindings(main)]
    return {value.op.name_hint for value in values if isinstance(getattr(value, "op", None), tvm.ir.GlobalVar)}


def _lower_kernels(functions: dict[str, Any], machine: Any, threads: int) -> Any:
    """TVM's default lowering of TIR, with functions over raw pointers in place of packed ones."""
    named = {tvm.ir.GlobalVar(name): function for name, function in functions.items()}
    module = relax.transform.AttachGlobalSymbol()(tvm.IRModule(named))
    module = tirx.transform.BindTarget(machine.with_host(machine))(module)
    module = tvm.transform.Sequential(
        [
            _for_each("Hold", hold),
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerCrossThreadReduction(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.LiftThreadBinding(),
            s_tir.transform.CompactBufferAllocation(),
            s_tir.transform.UnifyThreadBinding(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.StmtSimplify(),
            s_tir.transform.AnnotateIrregularLoop(),
            s_tir.transform.LowerOpaqueBlock(),
            _for_each("ShareOut", partial(share_out, threads=threads)),
            tirx.transform.FlattenBuffer(),
            tirx.transform.BF16ComputeLegalize(),
            tirx.transform.NarrowDataType(32),
            s_tir.transform.LoopPartition(),
            tirx.transform.VectorizeLoop(enable_vectorize=True),
            tirx.transform.StorageRewrite(),
            s_tir.transform.HoistIfThenElse(),
            tirx.transform.UnrollLoop(),
            s_tir.transform.RenormalizeSplitPattern(),
            tirx.transform.StmtSimplify(),
            tirx.transform.RemoveNoOp(),
            s_tir.transform.RewriteUnsafeSelect(),
            tirx.transform.CommonSubexprElim(),
            tirx.transform.FP8ComputeLegalize(),
            tirx.transform.VerifyMemory(),
            tirx.transform.AnnotateEntryFunc(),
            tirx.transform.SplitHostDevice(),
        ]
    )(module)
    module = tvm.IRModule({variable: _over_raw_pointers(function) for variable, function in module.functions.items()})
    return tvm.transform.Sequential(
        [
            _for_each("Release", release),
            tirx.transform.FP8StorageLegalize(),
            tirx.transform.BF16StorageLegalize(),
            tirx.transform.LowerTVMBuiltin(),
            tirx.transform.LowerIntrin(),
            _for_each("NameInMemory", name_in_memory),
        ]
    )(module)


def _for_each(name: str, transform: Callable[[Any], Any]) -> Any:
    """A pass that does something to each kernel."""
    return tirx.transform.prim_func_pass(lambda kernel, *_: transform(kernel), opt_level=0, name=name)


def _over_raw_pointers(function: Any) -> Any:
    """A function over buffers as one over plain pointers that returns 0: what MakePackedAPI does, without the packing."""
    pointers = [
        tirx.Var(parameter.name, tvm.ir.PointerType(tvm.ir.PrimType(parameter.dtype), "global"))
        for parameter in function.params
    ]
    zero = tirx.IntImm("int32", 0)
    declared = [tirx.DeclBuffer(parameter, data=pointer) for parameter, pointer in zip(function.params, pointers, strict=True)]
    body = tirx.SeqStmt([*declared, _with_sums_on_the_stack(function.body), tirx.stmt.Return(zero)])
    body = tirx.AttrStmt(zero, "device_id", zero, body)
    body = tirx.AttrStmt(zero, "device_type", tirx.IntImm("int32", 1), body)
    raw = tirx.PrimFunc(pointers, body, tvm.ir.PrimType("int32"))
    for key, value in function.attrs.items():
        raw = raw.with_attr(key, value)
    return raw


def _with_sums_on_the_stack(body: Any) -> Any:
    """The body with small local buffers left to LLVM, which keeps sums in registers; TVM would put each into the workspace."""
    statements = list(body.seq) if hasattr(body, "seq") else [body]
    left = {"disable_lower_builtin": tirx.const(1, "bool")}
    return tirx.SeqStmt([tirx.AllocBuffer(one.buffer, left) if _is_small_and_local(one) else one for one in statements])


def _is_small_and_local(statement: Any) -> bool:
    if type(statement).__name__ != "AllocBuffer" or statement.buffer.scope() != "local":
        return False
    values = prod(int(extent) for extent in statement.buffer.shape)
    return values * int(tvm.DataType(str(statement.buffer.dtype)).itemsize) <= _LARGEST_ON_STACK


def _workspace_bytes(statements: Sequence[Any]) -> int:
    """Bytes of all workspace that lowered statements ask for; small buffers are on the stack and ask for none."""
    total = 0

    def count(call: Any) -> None:
        nonlocal total
        if getattr(call.op, "name", "") == "tirx.TVMBackendAllocWorkspace":
            total += -(-int(call.args[2]) // _WORKSPACE_ALIGNMENT) * _WORKSPACE_ALIGNMENT

    for statement in statements:
        structural_walk(statement, (Call, count))
    return total
