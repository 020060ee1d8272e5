"""TVM's TFLite converter, made to write quantised operators as dequantise → operator → quantise throughout."""

from typing import Any

import tvm
from tvm import relax
from tvm.relax.frontend.tflite.tflite_frontend import OperatorConverter


class QuantisedConverter(OperatorConverter):  # type: ignore[misc] # TVM has no types
    """TVM's converter, with quantised operators that it refuses or computes in another way than TFLite."""

    _SUPPORTED_QUANTIZED_OPS = OperatorConverter._SUPPORTED_QUANTIZED_OPS | {  # noqa: SLF001 - there is no other list
        # These move codes without a look at them, and the converter pads with the zero point.
        *(
            "PAD",
            "PADV2",
            "TRANSPOSE",
            "SQUEEZE",
            "EXPAND_DIMS",
            "SLICE",
            "STRIDED_SLICE",
            "SPLIT",
            "SPLIT_V",
            "PACK",
            "UNPACK",
        ),
        *(
            "GATHER",
            "TILE",
            "RESIZE_NEAREST_NEIGHBOR",
            "SPACE_TO_DEPTH",
            "DEPTH_TO_SPACE",
            "BATCH_TO_SPACE_ND",
            "SPACE_TO_BATCH_ND",
        ),
    }

    def convert_pool2d(self, op: Any, pool_type: str) -> Any:
        """As TVM does, but with average pooling over real numbers: over codes it would round towards zero."""
        result = super().convert_pool2d(op, pool_type)
        tensor = self.get_input_tensors(op)[0]
        if pool_type != "average" or not tensor.qnn_params:
            return result
        clip = result if result.op.name == "relax.clip" else None
        pool = (clip.args[0] if clip is not None else result).args[0]
        codes = pool.args[0].args[0]
        pooled = tvm.ir.Call(pool.op, [self.dequantize(codes, tensor)], pool.attrs)
        quantised = self.quantize(pooled, self.get_output_tensors(op)[0])
        return relax.op.clip(quantised, *clip.args[1:]) if clip is not None else quantised
