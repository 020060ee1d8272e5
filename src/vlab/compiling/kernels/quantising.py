"""float32 to int8 or uint8: clamped, and rounded to the nearest whole number, halves to even (ONNX operator QuantizeLinear).

The sum with 1.5 * 2^23 rounds, and its lowest bits are the number. That is fewer instructions than rounding and conversion, and
no conversion is left. QEMU 7.2 ends with an assertion at RISC-V's vector conversion with its own rounding mode (VFCVT.RTZ).
"""

from typing import Any

from tvm import te, tirx
from tvm.relax.transform.legalize_ops.common import _try_convert_to_scalar_const
from tvm.relax.transform.legalize_ops.qdq import _quantize as quantize_of_tvm

_ROUNDER, _ROUNDER_BITS = 12582912.0, 0x4B400000
"""1.5 * 2^23, and its bits: a float32 below 2^22 plus this one has its whole part in the lowest bits."""
_BOUNDS = {"int8": (-128, 127), "uint8": (0, 255)}


def quantize(builder: Any, call: Any) -> Any:
    """Legalisation of `relax.quantize` with one scale and one zero point; any other is left to TVM's own."""
    data, scale, zero_point = call.args[0], *(_number(argument) for argument in call.args[1:])
    bounds = _BOUNDS.get(str(call.attrs.out_dtype))
    if bounds is None or scale is None or zero_point is None or str(data.ty.dtype) != "float32":
        return quantize_of_tvm(builder, call)
    lowest, highest = (float(bound - int(zero_point)) for bound in bounds)

    def compute(values: Any) -> Any:
        def at(*place: Any) -> Any:
            clamped = te.max(te.min(values[place] / tirx.const(scale, "float32"), highest), lowest)
            bits = tirx.reinterpret("int32", clamped + tirx.const(_ROUNDER, "float32"))
            return (bits - (_ROUNDER_BITS - int(zero_point))).astype(str(call.attrs.out_dtype))

        return te.compute(values.shape, at, name="quantized")

    return builder.call_te(compute, data, primfunc_name_hint="quantize")


def _number(argument: Any) -> float | None:
    """A constant that is one number, or None."""
    found = _try_convert_to_scalar_const(argument)
    return float(found.value) if isinstance(found, tirx.IntImm | tirx.FloatImm) else None
