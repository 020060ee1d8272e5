"""The process that one compile runs in: `python -m vlab.compiling.worker DIRECTORY`.

Reads the order in the directory and writes object, C and weights beside it, and what the reference runtime answers to the
probe.
A process of its own keeps crashes and memory of the compiler away from the caller, and TVM out of it.
"""

import sys
import traceback
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlab import reference
from vlab.compiling import exchange, probing
from vlab.compiling.exchange import Order, ProbeCase, Product, Response
from vlab.compiling.foreign import said
from vlab.compiling.probing import Case
from vlab.compiling.reading import limits
from vlab.compiling.reading.outlining import Outline, outline_model
from vlab.datasets import Array, write_rows
from vlab.errors import CompileError, DifferenceError, ModelError, VlabError
from vlab.records import Calls, Failure, ModelFormat, TensorSpec
from vlab.reference import Loaded

if TYPE_CHECKING:
    from vlab.compiling.generating import Tensor

_ROUNDING_SEEDS = (1, 2)


def main() -> None:
    """Carry out the order in the directory that is the only argument, and write the response beside it."""
    directory = Path(sys.argv[1])
    (directory / exchange.RESPONSE).write_bytes(carry_out(directory).to_json())


def carry_out(directory: Path) -> Response:
    """Do what the order in a directory says."""
    reached = ["reading the order"]

    def stage(what: str) -> None:
        reached.append(what)
        print(f"{exchange.STAGE}{what}", file=sys.stderr, flush=True)

    try:
        order = Order.from_json((directory / exchange.REQUEST).read_bytes())
        return Response(product=_compile(order, directory, stage))
    except VlabError as error:
        traceback.print_exc()
        return Response(failure=Failure.of(error))
    except MemoryError:
        return Response(failure=Failure.of(CompileError("the compile process ran out of its memory limit")))
    except Exception as error:  # noqa: BLE001 - what TVM raises has no common class; the caller gets one line of it
        traceback.print_exc()
        return Response(
            failure=Failure.of(
                CompileError(
                    f"the compiler failed while {reached[-1]}: {said(error)}; --debug keeps its trace, and parts of the model "
                    "compiled by themselves show which operator it is"
                )
            )
        )


def _compile(order: Order, directory: Path, stage: Callable[[str], None]) -> Product:
    format_ = order.model.format
    runtime = reference.runtime_name(format_)  # before the long way to where it is needed
    content = Path(order.path).read_bytes()
    if sha256(content).hexdigest() != order.model.sha256:
        raise ModelError(f"{order.path} changed while it was compiled; compile it again")

    stage("reading the model")
    outline = outline_model(content, format_, order.options.shapes)
    limits.refuse_excess(outline)

    stage("importing the model")
    from vlab.compiling import generating, importing, lowering

    import_model = importing.import_onnx if format_ is ModelFormat.onnx else importing.import_tflite
    imported = import_model(content, order.options.shapes)

    stage("lowering the model")
    lowered = lowering.lower(imported.module, imported.nodes, order.target, order.options.threads)
    generated = generating.generate(lowered, order.options.threads)
    stage("generating machine code")
    lowering.emit_object(lowered, order.target).write_to_file(str(directory / exchange.KERNELS), "o")
    (directory / exchange.SOURCE).write_text(generated.source, encoding="utf-8")
    (directory / exchange.ASSEMBLY).write_text(generating.WEIGHTS, encoding="utf-8")
    (directory / exchange.WEIGHTS).write_bytes(generated.weights)
    (directory / Calls.FILE).write_bytes(Calls(calls=generated.calls).to_json())
    inputs = _named(imported.inputs, generated.inputs)
    outputs = tuple(_told(spec, outline) for spec in _named(imported.outputs, generated.outputs))

    stage("running the reference")
    loaded = reference.load(content, format_, order.model.name)
    path = Path(order.probe_inputs) if order.probe_inputs else None
    cases = _answerable(loaded, inputs, outline, path, probing.cost(lowered.operations, order.target))
    rows = [np.concatenate(parts) for parts in zip(*(case.columns for case in cases), strict=True)]
    answers = _answers(loaded, rows)
    for spec, array in zip(outputs, answers, strict=True):
        if str(array.dtype) != spec.dtype or array.shape[1:] != spec.shape:
            raise DifferenceError(
                f"output {spec.name} was compiled to {spec.dtype}{list(spec.shape)}, but {runtime} gives "
                f"{array.dtype}{list(array.shape[1:])}"
            )
    write_rows(rows, directory / exchange.PROBE)
    write_rows(answers, directory / exchange.REFERENCE)
    for seed in _ROUNDING_SEEDS:
        if rounded := probing.rounded(rows, seed, halves=probing.computes_in_halves(outline)):
            write_rows(_answers(loaded, rounded), directory / exchange.MOVED.format(seed))
    if outline.quantisation and format_ is ModelFormat.onnx:
        fused = reference.load(content, format_, order.model.name, fused=True)
        write_rows(_answers(fused, rows), directory / exchange.MOVED.format("fused"))

    from tvm.target.codegen import llvm_version_major

    return Product(
        notices=imported.notices,
        llvm=str(llvm_version_major()),
        reference=runtime,
        cases=tuple(ProbeCase(name=case.name, inputs=len(case.columns[0]), edge=case.edge) for case in cases),
        inputs=inputs,
        outputs=outputs,
        kernels=lowered.report,
        threads=generated.threads,
        arena_bytes=generated.arena_bytes,
        workspace_bytes=generated.workspace_bytes,
        weights_bytes=len(generated.weights),
    )


def _answerable(
    loaded: Loaded, inputs: Sequence[TensorSpec], outline: Outline, path: Path | None, operations: int
) -> list[Case]:
    """The cases of the check, as far as the reference can compute them.

    With whole numbers of 0 and 1 only where it refuses larger ones, as in tables that the graph does not tell about, and with
    the first magnitude of `large` that it computes without overflow.
    """
    narrow = False
    if any(np.dtype(spec.dtype).kind in "iu" for spec in inputs):
        try:
            for case in probing.cases(inputs, outline, path, operations=operations):
                loaded.outputs(case.columns)
        except ModelError:
            narrow = True
    for magnitude in probing.LARGE:
        cases = probing.cases(inputs, outline, path, operations=operations, magnitude=magnitude, narrow=narrow)
        large = [case for case in cases if case.name.startswith("large")]
        if all(np.isfinite(answer).all() for case in large for answer in _answers(loaded, case.columns)):
            return cases
    return probing.cases(inputs, outline, path, operations=operations, narrow=narrow)


def _answers(loaded: Loaded, columns: Sequence[Array]) -> tuple[Array, ...]:
    try:
        return loaded.outputs(columns)
    except ModelError as error:
        raise CompileError(f"there is nothing to compare with: {error}") from error


def _told(output: TensorSpec, outline: Outline) -> TensorSpec:
    """An output with what the graph says about how exact it is."""
    precision = outline.precision(output.name) if np.dtype(output.dtype).kind == "f" else None
    own = precision is None or np.dtype(precision).itemsize >= np.dtype(output.dtype).itemsize
    return output.model_copy(update={"step": outline.step(output.name), "precision": None if own else precision})


def _named(names: tuple[str, ...], tensors: "tuple[Tensor, ...]") -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=name, shape=tensor.shape, dtype=tensor.dtype) for name, tensor in zip(names, tensors, strict=True)
    )


if __name__ == "__main__":
    main()
