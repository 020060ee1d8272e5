"""Generate the C around the kernels: `aot_run` with its arena, and the weights as one block of bytes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm

from vlab.compiling.expressions import bindings
from vlab.compiling.lowering import Lowered, symbol
from vlab.datasets import Array
from vlab.errors import CompileError
from vlab.records import KernelCall

_ALIGNMENT = 64
"""Of tensors in arena and weights: a cache line. The kernels assume no more than that of their elements, but a vector that lies
across two lines takes two loads."""

_ALIASES = {
    f"relax.{name}" for name in ("reshape", "expand_dims", "squeeze", "flatten", "memory.kill_storage", "memory.kill_tensor")
}
"""Calls that leave the bytes where they are."""

_DTYPES = (
    *("float32", "float64", "float16", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
"""Types of inputs and outputs."""

WEIGHTS = """\
.section .weights,"a"
.global aot_weights
.balign 64
aot_weights:
.incbin "weights.bin"
.byte 0
.section .note.GNU-stack,"",%progbits
"""

_SOURCE = """\
#include <stddef.h>
#include "aot.h"

extern const uint8_t aot_weights[];
static uint8_t arena[{arena}] __attribute__((aligned({alignment})));
enum {{ WORKSPACE = {workspace}, TASK_WORKSPACE = {task_workspace}, THREADS = {threads} }};
static uint8_t workspace[WORKSPACE + (THREADS - 1) * TASK_WORKSPACE] __attribute__((aligned({alignment})));
static size_t used[THREADS];
{thread}

#define WEIGHT(offset) ((void *)(aot_weights + (offset)))
#define ARENA(offset) ((void *)(arena + (offset)))
#define OWN_WORKSPACE (workspace + (THREAD ? WORKSPACE + (THREAD - 1) * TASK_WORKSPACE : 0))

/* Kernels take temporary memory from the part of their thread. They give back what they take within a shared loop, in any order
 * at its end, but never what they take outside one; so the part is empty again before each call. */
static void *take(int device, int number, uint64_t bytes, int code, int bits) {{
  size_t size = ((size_t)bytes + {alignment} - 1) & ~(size_t)({alignment} - 1);
  (void)device, (void)number, (void)code, (void)bits;
  if (size > (THREAD ? TASK_WORKSPACE : WORKSPACE) - used[THREAD]) return NULL;
  used[THREAD] += size;
  return OWN_WORKSPACE + used[THREAD] - size;
}}
static int give_back(int device, int number, void *memory) {{
  size_t offset = (size_t)((uint8_t *)memory - OWN_WORKSPACE);
  (void)device, (void)number;
  if (offset < used[THREAD]) used[THREAD] = offset;
  return 0;
}}
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = take;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = give_back;

{declarations}

const uint32_t aot_input_count = {input_count}, aot_output_count = {output_count}, aot_call_count = {call_count};
const uint64_t aot_input_bytes[] = {{{input_bytes}}}, aot_output_bytes[] = {{{output_bytes}}};

/* CALL(number, kernel, its arguments) for every kernel call in order. */
#define CALLS{calls}

static int give(void *const *inputs, void **outputs) {{
  (void)inputs;
{results}
  return 0;
}}

int aot_run(void *const *inputs, void **outputs) {{
#define CALL(number, kernel, ...) \\
  used[0] = 0; \\
  if (kernel(__VA_ARGS__)) return number;
  CALLS
#undef CALL
  return give(inputs, outputs);
}}

int aot_profile(void *const *inputs, void **outputs, void (*mark)(uint32_t call)) {{
  mark(0);
  mark(0);
#define CALL(number, kernel, ...) \\
  used[0] = 0; \\
  if (kernel(__VA_ARGS__)) return number; \\
  mark(number);
  CALLS
#undef CALL
  return give(inputs, outputs);
}}
"""


_THREADS = """\
extern _Thread_local uint32_t aot_thread; /* 0 to THREADS - 1; 0 is the one that calls aot_run */
const uint32_t aot_thread_count = THREADS;
#define THREAD aot_thread"""


@dataclass(frozen=True)
class Tensor:
    """Shape and numpy dtype of an input or output."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size_bytes(self) -> int:
        """Bytes of its values, without gaps."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Generated:
    """The C around the kernels, and what it needs of a device."""

    source: str
    weights: bytes
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    arena_bytes: int
    workspace_bytes: int
    calls: tuple[KernelCall, ...]
    """What each kernel call has to do, in order."""
    threads: int
    """That the program has to have."""


def generate(lowered: Lowered, threads: int) -> Generated:
    """Turn the flat main function into C.

    Args:
        lowered: the model.
        threads: that share the loops of large kernels; none but the caller where no kernel is large.

    Raises:
        CompileError: main holds something that a flat list of kernel calls cannot express; says what.
    """
    walk = _Walk()
    for index, parameter in enumerate(lowered.main.params):
        walk.places[parameter] = _Place("input", index)
    for binding in bindings(lowered.main):
        walk.bind(binding.var, binding.value)

    result = lowered.main.ret_ty
    inputs = tuple(_tensor(parameter.ty) for parameter in lowered.main.params)
    outputs = tuple(_tensor(ty) for ty in (result.fields if hasattr(result, "fields") else [result]))
    results = walk.resolve(lowered.main.body.body)

    offsets, top = _lay_out(walk.storages + walk.allocated)
    storage_offsets, output_offsets = offsets[: len(walk.storages)], offsets[len(walk.storages) :]
    weight_offsets, weights_top = _lay_out([weight.nbytes for weight in walk.weights])
    weights = bytearray(weights_top)
    for offset, weight in zip(weight_offsets, walk.weights, strict=True):
        weights[offset : offset + weight.nbytes] = weight.tobytes()

    def text(place: _Place) -> str:
        if place.kind == "input":
            return f"inputs[{place.index}]"
        if place.kind == "weight":
            return f"WEIGHT({weight_offsets[place.index]})"
        base = storage_offsets if place.kind == "storage" else output_offsets
        return f"ARENA({base[place.index] + place.offset})"

    arity = {call.symbol: len(call.arguments) for call in walk.calls}
    workspace = _aligned(max((lowered.workspace_bytes[name] for name in arity), default=0))
    threads = threads if lowered.task_workspace_bytes else 1
    task_workspace = _aligned(max(lowered.task_workspace_bytes.values(), default=0))
    calls = [
        f"CALL({number}, {call.symbol}, {', '.join(text(argument) for argument in call.arguments)})"
        for number, call in enumerate(walk.calls, 1)
    ]
    source = _SOURCE.format(
        arena=max(top, 1),
        workspace=max(workspace, _ALIGNMENT),
        task_workspace=task_workspace,
        threads=threads,
        thread=_THREADS if threads > 1 else "#define THREAD 0",
        alignment=_ALIGNMENT,
        declarations="\n".join(f"int32_t {name}({', '.join(['void *'] * arity[name])});" for name in sorted(arity)),
        input_count=len(inputs),
        output_count=len(outputs),
        input_bytes=", ".join(str(tensor.size_bytes) for tensor in inputs) or "0",
        output_bytes=", ".join(str(tensor.size_bytes) for tensor in outputs),
        call_count=len(calls),
        calls=" \\\n  ".join(["", *calls]),
        results="\n".join(f"  outputs[{index}] = {text(place)};" for index, place in enumerate(results)),
    )
    shared = dict.fromkeys(lowered.task_workspace_bytes, threads)
    work = tuple(lowered.calls[call.result].model_copy(update={"threads": shared.get(call.symbol, 1)}) for call in walk.calls)
    whole = workspace + (threads - 1) * task_workspace
    return Generated(source, bytes(weights), inputs, outputs, top, whole, work, threads)


@dataclass(frozen=True)
class _Place:
    """Where the bytes of a variable are."""

    kind: str
    """input, weight, storage or output."""
    index: int
    offset: int = 0


@dataclass
class _Call:
    """A kernel call."""

    symbol: str
    arguments: list[_Place]
    result: str = ""
    """Name of the variable that its result is bound to afterwards."""


@dataclass
class _Walk:
    """What is known so far on the way through the main function."""

    places: dict[Any, Any] = field(default_factory=dict)
    calls: list[_Call] = field(default_factory=list)
    tensors: dict[Any, _Call | None] = field(default_factory=dict)
    """Of every variable of allocated memory: the call that has it as an argument, until the result is bound."""
    weights: list[Array] = field(default_factory=list)
    storages: list[int] = field(default_factory=list)
    allocated: list[int] = field(default_factory=list)
    known_weights: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def bind(self, variable: Any, value: Any) -> None:
        kind = type(value).__name__
        for memory in value.fields if kind == "Tuple" else (value,):
            if call := self.tensors.pop(memory, None):
                call.result = variable.name
        if kind == "Tuple":
            self.places[variable] = [self.place(item) for item in value.fields]
        elif kind == "TupleGetItem":
            self.places[variable] = self.places[value.tuple_value][value.index]
        elif kind != "Call":
            self.places[variable] = self.place(value)
        elif isinstance(value.op, tvm.ir.GlobalVar):
            self.calls.append(_Call(symbol(value.op.name_hint), [self.place(argument) for argument in value.args]))
            self.tensors.update((argument, self.calls[-1]) for argument in value.args if argument in self.tensors)
        else:
            self.places[variable] = self._builtin(variable, value)

    def resolve(self, value: Any) -> list[_Place]:
        if type(value).__name__ == "Tuple":
            return [self.place(item) for item in value.fields]
        place = self.places[value] if value in self.places else self.place(value)
        return place if isinstance(place, list) else [place]

    def place(self, value: Any) -> _Place:
        if type(value).__name__ in ("GenericConst", "Constant"):
            return _Place("weight", self._weight(value.value if hasattr(value, "value") else value.data))
        place = self.places.get(value)
        if not isinstance(place, _Place):
            raise CompileError(
                f"a value of the model is no tensor but a {type(value).__name__}, {str(value)[:80]}; "
                "replace the operator that computes it, such as Shape, by a constant"
            )
        return place

    def _builtin(self, variable: Any, call: Any) -> _Place:
        name = getattr(call.op, "name", None) or getattr(call.op, "global_symbol", type(call.op).__name__)
        if name == "relax.memory.alloc_storage":
            self.storages.append(int(call.args[0].values[0]))
            return _Place("storage", len(self.storages) - 1)
        if name == "relax.memory.alloc_tensor":
            self.tensors[variable] = None
            return _Place("storage", self.place(call.args[0]).index, int(call.args[1].value))
        if name == "relax.builtin.alloc_tensor":
            self.tensors[variable] = None
            self.allocated.append(_tensor(variable.ty).size_bytes)
            return _Place("output", len(self.allocated) - 1)
        if name in _ALIASES:
            return self.place(call.args[0])
        raise CompileError(
            f"the model calls {name} of TVM's runtime, which is not on the board; replace the operator behind it"
        )

    def _weight(self, tensor: Any) -> int:
        """Index of a constant; equal bytes are kept once."""
        array = np.ascontiguousarray(tensor.numpy())
        key = (str(array.dtype), hashlib.sha256(array.tobytes()).digest())
        if key not in self.known_weights:
            self.known_weights[key] = len(self.weights)
            self.weights.append(array)
        return self.known_weights[key]


def _lay_out(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Aligned offsets for blocks one after the other, and the end of the last."""
    offsets, top = [], 0
    for size in sizes:
        offsets.append(top)
        top += _aligned(size)
    return offsets, top


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _tensor(ty: Any) -> Tensor:
    try:
        shape = tuple(int(extent) for extent in ty.shape)
    except (AttributeError, TypeError, ValueError) as error:
        raise CompileError(
            f"a tensor of the model has the dynamic shape {getattr(ty, 'shape', ty)}; expected fixed ones"
        ) from error
    if str(ty.dtype) not in _DTYPES or 0 in shape:
        raise CompileError(
            f"a tensor of the model is {ty.dtype}{list(shape)}; expected one value or more, of one of: {', '.join(_DTYPES)}"
        )
    return Tensor(shape, str(ty.dtype))
