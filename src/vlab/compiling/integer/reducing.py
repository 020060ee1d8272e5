"""Rescaling, poolings, means and softmax over int8 codes, for the schedule; each as LiteRT's reference kernel has it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import te, tirx, topi

from vlab.compiling.integer.fixed_point import (
    SOFTMAX_INTEGER_BITS,
    Multiplier,
    OverflowingError,
    exp_on_negative_values,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
)
from vlab.compiling.integer.rescaling import Codes, check_sum
from vlab.compiling.integer.writing import clamp
from vlab.compiling.schedule import ANNOTATION, WRITTEN

_ACCUMULATION_BITS = 12
"""Integer bits of the sum of exponentials (reference/softmax.h, kAccumulationIntegerBits)."""
_LARGEST = 2**31 - 1
_LARGEST_SCALING = 2**30 - 1
"""PreprocessSoftmaxScaling (quantization_util.cc), max_real_multiplier."""
_MOST_EXPONENTIALS = 2 ** (31 - 19)
"""Exponentials of 1, each 2**19 with 12 integer bits, whose sum stays in an int32."""


def flipped(data: Any, dtype: str) -> Any:
    """Codes of uint8 as those of int8, 128 below, or back."""
    step = tirx.const(-128 if dtype == "int8" else 128, "int32")
    return te.compute(data.shape, lambda *at: (data(*at).astype("int32") + step).astype(dtype), name="flipped")


def rescaled(data: Any, source: Codes, output: Codes, scale: float) -> Any:
    """Requantize (quantize.cc), or an activation of its own (activations.cc, QuantizedReluX): `x * scale`, clamped.

    Raises:
        OverflowingError: the product passes an int32.
    """
    multiplier = quantize_multiplier(scale)
    check_sum(255 << max(0, multiplier.shift))

    def code(*at: Any) -> Any:
        value = _multiplied_twice(data(*at).astype("int32") - source.zero_point, multiplier) + output.zero_point
        return clamp(value, output.low, output.high).astype("int8")

    return te.compute(data.shape, code, name="rescaled")


def values_counted(extent: int, kernel: int, stride: int, before: int, after: int) -> npt.NDArray[np.int32]:
    """Along one axis, for each output of a pooling, how many values in its window are not padding."""
    starts = np.arange(-before, extent + after - kernel + 1, stride)
    return np.asarray(np.minimum(starts + kernel, extent) - np.maximum(starts, 0), np.int32)


def average_pool(
    data: Any, rows_counted: Any, columns_counted: Any, window: Sequence[Sequence[int]], padding: Sequence[int], output: Codes
) -> Any:
    """AveragePool (integer_ops/pooling.h) of NHWC codes, whose scale and zero point stay: what is padded does not count.

    Counts are tensors, of `values_counted`: TVM would compute them in the type of its indices, and all that follows.
    """
    kernel, strides = window
    batch, height, width, channels = (int(extent) for extent in data.shape)
    top, left, bottom, right = padding
    rows, columns = te.reduce_axis((0, kernel[0]), "row"), te.reduce_axis((0, kernel[1]), "column")
    out_height = (height + top + bottom - kernel[0]) // strides[0] + 1
    out_width = (width + left + right - kernel[1]) // strides[1] + 1
    filled = topi.nn.pad(data, [0, top, left, 0], [0, bottom, right, 0], tirx.const(0, "int8")) if any(padding) else data
    sums = te.compute(
        (batch, out_height, out_width, channels),
        lambda n, h, w, c: te.sum(
            filled[n, h * strides[0] + rows, w * strides[1] + columns, c].astype("int32"), axis=[rows, columns]
        ),
        name="sums",
    )

    def mean(n: Any, h: Any, w: Any, c: Any) -> Any:
        total, count = sums[n, h, w, c], rows_counted[h] * columns_counted[w]
        half = tirx.truncdiv(count, tirx.const(2, "int32"))
        rounded = tirx.truncdiv(tirx.Select(total > 0, total + half, total - half), count)
        return clamp(rounded, output.low, output.high).astype("int8")

    return te.compute(sums.shape, mean, name="averages")


def mean(data: Any, axes: Sequence[int], source: Codes, output: Codes) -> Any:
    """Mean (reduce.cc, reference/reduce.h, QuantizedMeanOrSum), with the reduced axes kept as 1; it rounds twice.

    Raises:
        OverflowingError: sums of so many values pass an int32.
    """
    count = int(np.prod([int(data.shape[axis]) for axis in axes]))
    multiplier = mean_multiplier(source.scale / output.scale, count)
    check_sum(255 * count << max(0, multiplier.shift))
    sums = topi.sum(data.astype("int32"), axis=list(axes), keepdims=True)

    def code(*at: Any) -> Any:
        total = sums(*at) - tirx.const(source.zero_point * count, "int32")
        value = _multiplied_twice(total, multiplier) + output.zero_point
        return clamp(value, output.low, output.high).astype("int8")

    return te.compute(sums.shape, code, name="means")


def mean_multiplier(scale: float, count: int) -> Multiplier:
    """The multiplier of a mean: that of the scales, divided by the count with as many bits as there are to spare."""
    rescaling = quantize_multiplier(scale)
    bits = min(count.bit_length() - 1, 32, 31 + rescaling.shift)
    return Multiplier((rescaling.mantissa << bits) // count, rescaling.shift - bits)


def softmax_table(beta: float, scale: float) -> npt.NDArray[np.int32]:
    """Exp of `-scale * beta * n` for n from 0 on, with 31 fractional bits, up to where the reference gives 0 for the rest.

    PreprocessSoftmaxScaling and CalculateInputRadius (quantization_util.cc).
    """
    multiplier = quantize_multiplier(min(beta * scale * 2 ** (31 - SOFTMAX_INTEGER_BITS), _LARGEST_SCALING))
    radius = ((2**SOFTMAX_INTEGER_BITS - 1) * 2 ** (31 - SOFTMAX_INTEGER_BITS)) >> multiplier.shift
    steps = -np.arange(0, min(radius, 255) + 1, dtype=np.int64)
    scaled = multiply_by_quantized_multiplier(steps, multiplier.mantissa, multiplier.shift)
    return exp_on_negative_values(scaled).astype(np.int32)


def softmax(data: Any, table: Any, output: Codes) -> Any:
    """Softmax (reference/softmax.h) over the last axis of codes [rows, classes]; `table` is that of `softmax_table`.

    Raises:
        OverflowingError: the sum over so many classes passes an int32.
    """
    rows, classes = (int(extent) for extent in data.shape)
    size = int(table.shape[0])
    if classes >= _MOST_EXPONENTIALS:
        raise OverflowingError(f"a softmax over {classes} classes passes what int32 arithmetic holds")
    first, second = te.reduce_axis((0, classes), "class"), te.reduce_axis((0, classes), "class")
    largest = te.compute((rows,), lambda i: te.max(data[i, first].astype("int32"), axis=first), name="largest")

    def exponential(i: Any, k: Any) -> Any:
        below = largest[i] - data[i, k].astype("int32")
        return tirx.if_then_else(below < size, table[te.min(below, size - 1)], tirx.const(0, "int32"))

    exponentials = te.compute((rows, classes), exponential, name="exponentials")
    total = te.compute(
        (rows,),
        lambda i: te.sum(_divided(exponentials[i, second], tirx.const(_ACCUMULATION_BITS, "int32")), axis=second),
        name="total",
    )
    headroom = te.compute((rows,), lambda i: tirx.clz(total[i]).astype("int32"), name="headroom")
    reciprocal = _reciprocal(total, headroom)

    def code(i: Any, k: Any) -> Any:
        share = _high(reciprocal[i], exponentials[i, k])
        exponent = _ACCUMULATION_BITS - headroom[i] + (31 - 8)
        value = _divided(share, exponent) - 128
        return clamp(value, output.low, output.high).astype("int8")

    return te.compute((rows, classes), code, name="shares", attrs={ANNOTATION: WRITTEN})


def _reciprocal(total: Any, headroom: Any) -> Any:
    """GetReciprocal (common.h) and one_over_one_plus_x_for_x_in_0_1 (fixedpoint.h): three steps of Newton and Raphson.

    Every step is a tensor of its own, and stays one: as one expression it would hold the step before three times.
    """

    def halved(i: Any) -> Any:
        above_one = tirx.bitwise_and(tirx.shift_left(total[i], headroom[i]), tirx.const(_LARGEST, "int32"))
        return tirx.shift_right(above_one.astype("int64") + (1 << 31), tirx.const(1, "int64")).astype("int32")

    half = te.compute(total.shape, halved, name="half")
    guess = te.compute(total.shape, lambda i: _high(half[i], tirx.const(-1010580540, "int32")) + 1515870810, name="guess")
    for step in range(3):
        guess = _better(guess, half, str(step))
    twice = "llvm.sshl.sat.i32"
    return te.compute(
        total.shape, lambda i: tirx.call_llvm_pure_intrin("int32", twice, guess[i], tirx.const(1, "int32")), name="reciprocal"
    )


def _better(guess: Any, half: Any, step: str) -> Any:
    """One step of Newton and Raphson."""
    rest = te.compute(guess.shape, lambda i: tirx.const(1 << 29, "int32") - _high(half[i], guess[i]), name=f"rest_{step}")
    return te.compute(
        guess.shape,
        lambda i: guess[i] + tirx.shift_left(_high(guess[i], rest[i]), tirx.const(2, "int32")),
        name=f"guess_{step}",
    )


def _multiplied_twice(value: Any, multiplier: Multiplier) -> Any:
    """MultiplyByQuantizedMultiplier by a constant, with two roundings, the second of halves away from zero."""
    shifted = tirx.shift_left(value, tirx.const(max(0, multiplier.shift), "int32"))
    high = _high(shifted, tirx.const(multiplier.mantissa, "int32"))
    right = -multiplier.shift
    if right <= 0:
        return high
    away = tirx.shift_right(high, tirx.const(31, "int32"))
    nudged = (high + away).astype("int64") + tirx.const(1 << (right - 1), "int64")
    return tirx.shift_right(nudged, tirx.const(right, "int64")).astype("int32")


def _high(a: Any, b: Any) -> Any:
    """SaturatingRoundingDoublingHighMul."""
    product = a.astype("int64") * b.astype("int64") + tirx.const(1 << 30, "int64")
    return tirx.shift_right(product, tirx.const(31, "int64")).astype("int32")


def _divided(value: Any, exponent: Any) -> Any:
    """RoundingDivideByPOT of what is not negative, by at least 1."""
    return tirx.shift_right(tirx.shift_right(value, exponent - 1) + 1, tirx.const(1, "int32"))
