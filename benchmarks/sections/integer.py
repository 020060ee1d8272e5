"""Quantised models: instructions against their float32 twins, weights in the image, and agreement with LiteRT."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks.bars import Bar, Row
from benchmarks.sections.bench import INPUTS, Bench, load
from benchmarks.sections.weights import stored
from benchmarks.tasks import Figure, Task
from vlab import datasets, reference
from vlab.records import ModelFormat, TensorSpec

SECTION = "integer"
PAIRS = {
    "ds-cnn-int8": "ds-cnn",
    "mobilenet-v1-0.25-int8": "mobilenet-v1-0.25",
    "resnet8-int8": "resnet8",
    "pretrainedResnet_quant.tflite": "pretrainedResnet.tflite",
    "ad01_int8.tflite": "ad01_fp32.tflite",
}
"""Quantised model and its float32 twin; the TFLite files are trained."""
CLASSIFIER = "pretrainedResnet_quant.tflite"
AUTOENCODER = "ad01_int8.tflite"
TARGETS = ("arm/aarch64-linux", "riscv/rv64gcv-linux", "arm/cortex-m4", "arm/cortex-a76-linux")
INPUTS_COMPARED = 200
_INSTRUCTIONS = Bar(limit=0.6)
_WEIGHTS = Bar(limit=1.1)
_WITHIN = Bar(limit=0.999, sense="at least")
_TOP1 = Bar(limit=1.0, sense="at least")
_SEED = 11


def tasks(bench: Bench) -> Iterator[Task]:
    """In a quick run one target and, where it is compared with LiteRT, this machine."""
    for int8, fp32 in PAIRS.items():
        for name in TARGETS[:1] if bench.quick else TARGETS:
            row = _row(f"{int8}, {name}", "instructions / those of the float32 twin", _INSTRUCTIONS)
            yield Task(SECTION, f"instructions {int8} {name}", [row], partial(_instructions, bench, int8, fp32, name), 40)
    for int8 in PAIRS:
        row = _row(int8, "weights in the image / quantised weights", _WEIGHTS)
        yield Task(SECTION, f"weights {int8}", [row], partial(_image_weights, bench, int8), 10)
    for int8 in (CLASSIFIER, AUTOENCODER):
        for name in [bench.host.name] if bench.quick else [bench.host.name, *TARGETS]:
            rows = [_row(f"{int8}, {name}", f"elements within 1 LSB of LiteRT, {INPUTS_COMPARED} inputs", _WITHIN)]
            if int8 == CLASSIFIER:
                rows.append(_row(f"{int8}, {name}", f"same top-1 as LiteRT, {INPUTS_COMPARED} inputs", _TOP1))
            yield Task(SECTION, f"agreement {int8} {name}", rows, partial(_agreement, bench, int8, name, len(rows)), 30)


def _row(subject: str, quantity: str, bar: Bar) -> Row:
    return Row(section=SECTION, subject=subject, quantity=quantity, unit="", value=None, bar=bar)


def _instructions(bench: Bench, int8: str, fp32: str, name: str) -> list[Figure]:
    target = load(name)
    counts = []
    for model in (int8, fp32):
        compiled = bench.compile(bench.model(model), target)
        counts.append(bench.instructions(bench.program(compiled, target)))
    return [Figure(counts[0] / counts[1], f"{counts[0]:,} against {counts[1]:,} in float32")]


def _image_weights(bench: Bench, int8: str) -> list[Figure]:
    model = bench.model(int8)
    compiled = bench.compile(model, load(TARGETS[0]))
    model_stores = stored(model)
    image = compiled.manifest.weights_bytes
    detail = (
        f"{image:,} B against {model_stores.weights_bytes:,} B of int8 weights and int32 biases and "
        f"{model_stores.scales_bytes:,} B of scales; {image / model_stores.weights_bytes:.3f} without the scales"
    )
    return [Figure(image / model_stores.total_bytes, detail)]


def _agreement(bench: Bench, int8: str, name: str, figures: int) -> list[Figure]:
    """Over inputs drawn evenly from all int8 values, which is a hard case: trained models see smoother ones."""
    target = load(name)
    model = bench.model(int8)
    compiled = bench.compile(model, target)
    program = bench.program(compiled, target)
    rows = _uniform(compiled.manifest.inputs)
    datasets.write_rows(rows, program.work / INPUTS)
    got = datasets.read_rows(program.infer(INPUTS, "outputs.bin"), compiled.manifest.outputs, INPUTS_COMPARED)[0]
    runtime = reference.load(model.read_bytes(), ModelFormat.tflite, int8)
    expected = runtime.outputs(rows)[0]
    return agreement(got, expected, runtime.runtime)[:figures]


def agreement(got: datasets.Array, expected: datasets.Array, runtime: str) -> list[Figure]:
    """Share of elements within one unit of the last place, and share of samples with the same largest element.

    Args:
        got: whole numbers [N, ...].
        expected: of the same shape.
        runtime: whose they are, for the detail.
    """
    difference = np.abs(got.astype(np.int64) - expected.astype(np.int64))
    flat = [array.reshape(len(array), -1).argmax(axis=1) for array in (got, expected)]
    detail = f"{runtime}, reference kernels; at most {difference.max()} LSB, {(difference == 0).mean():.2%} equal"
    return [Figure(float((difference <= 1).mean()), detail), Figure(float((flat[0] == flat[1]).mean()), detail)]


def _uniform(specs: tuple[TensorSpec, ...]) -> list[datasets.Array]:
    random = np.random.default_rng(_SEED)
    columns: list[datasets.Array] = []
    for spec in specs:
        bounds = np.iinfo(spec.dtype)
        columns.append(random.integers(bounds.min, bounds.max + 1, (INPUTS_COMPARED, *spec.shape)).astype(spec.dtype))
    return columns
