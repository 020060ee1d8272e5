"""How large a model may be, found by estimating before any compiler or runtime touches it."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vlab import processes
from vlab.compiling.reading.models import MAX_OPERATORS, inspect_model
from vlab.compiling.reading.outlining import Operator, Outline, outline_model
from vlab.errors import ModelError

MAX_TENSOR_BYTES = 512 << 20
"""Of one tensor: constant folding and the reference runtime hold several copies of it."""
MAX_WEIGHTS_BYTES = 1 << 30
"""Of all constants; a compile holds about four copies of them."""
MAX_VALUES_BYTES = 8 << 30
"""Of all that operators compute, one after the other."""
MAX_PRODUCTS = 100_000_000_000
"""Multiply-accumulates of one inference; an emulator would take hours for it, and it is run at least once."""

_SURVEY_S = 300.0
_SURVEY_BYTES = 16 << 30
_REDUCE = "reduce the model or its input"


def refuse_excess(outline: Outline) -> None:
    """Refuse a model that would take more memory or time than a compile has.

    Tensors whose shape is not known count as nothing here; the compile process has limits of its own on memory and time.

    Raises:
        ModelError: too many operators, a tensor or all of them too large, or too much arithmetic; with what was got, what is
            allowed, and where most of it is.
    """
    if len(outline.operators) > MAX_OPERATORS:
        raise ModelError(
            f"the model has {len(outline.operators)} operators, expected at most {MAX_OPERATORS}; split it into several models"
        )
    for name in [*outline.inputs, *outline.weights]:
        _refuse_tensor(name, "", outline)
    for operator in outline.operators:
        for name in operator.outputs:
            _refuse_tensor(name, f" of {_told(operator)}", outline)
    weights = sum(outline.weights.values())
    if weights > MAX_WEIGHTS_BYTES:
        largest = max(outline.weights, key=lambda name: outline.weights[name])
        raise ModelError(
            f"the model has {weights} bytes of weights (most in {largest}: {outline.weights[largest]}), expected at most "
            f"{MAX_WEIGHTS_BYTES}; reduce or quantise it"
        )
    values = {operator: sum(map(outline.size_bytes, operator.outputs)) for operator in outline.operators}
    if sum(values.values()) > MAX_VALUES_BYTES:
        most = max(outline.operators, key=lambda operator: values[operator])
        raise ModelError(
            f"the operators of the model compute {sum(values.values())} bytes (most of it {_told(most)}: {values[most]}), "
            f"expected at most {MAX_VALUES_BYTES}; {_REDUCE}"
        )
    products = sum(operator.products for operator in outline.operators)
    if products > MAX_PRODUCTS:
        most = max(outline.operators, key=lambda operator: operator.products)
        raise ModelError(
            f"one inference takes {products} multiply-accumulates (most of it {_told(most)}: {most.products}), expected at "
            f"most {MAX_PRODUCTS}; {_REDUCE}"
        )


def survey_model(model: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Do the same for a model's file, in a process of its own with limits on time and memory.

    Args:
        model: an ONNX or TFLite file with all its weights.
        shapes: shapes of inputs with free dimensions.

    Raises:
        ModelError: not a model, damaged, or too large.
    """
    inspect_model(model)
    argv = [
        sys.executable,
        "-c",
        "from vlab.compiling.reading import limits; limits.main()",
        str(model.absolute()),
        json.dumps(dict(shapes)),
    ]
    try:
        done = processes.run_limited(argv, timeout_s=_SURVEY_S, memory_bytes=_SURVEY_BYTES)
    except processes.LimitError as error:
        raise ModelError(f"{model.name} could not be read within {_SURVEY_S:.0f} s; reduce the model") from error
    if done.stdout:
        raise ModelError(done.stdout.decode())
    if done.returncode:
        raise ModelError(f"{model.name} could not be read ({done.last_words.splitlines()[-1][:200]}); export it again")


def main() -> None:
    """Print why the model that is the first argument is refused, or nothing."""
    path = Path(sys.argv[1])
    try:
        refuse_excess(outline_model(path.read_bytes(), inspect_model(path).format, json.loads(sys.argv[2])))
    except ModelError as error:
        print(error, end="")


def _refuse_tensor(name: str, where: str, outline: Outline) -> None:
    shape = list(outline.shapes.get(name, ()))
    if any(extent < 0 for extent in shape):
        raise ModelError(f"tensor {name}{where} has shape {shape}, expected no negative extent; export the model again")
    size = max(outline.size_bytes(name), outline.weights.get(name, 0))
    if size > MAX_TENSOR_BYTES:
        raise ModelError(
            f"tensor {name}{where} has shape {shape} and so {size} bytes, expected at most {MAX_TENSOR_BYTES}; {_REDUCE}"
        )


def _told(operator: Operator) -> str:
    return f"{operator.kind} (node {operator.name})"
