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
    _OVER_REALS = frozenset(("BATCH_MATMUL", "ELU", "GELU", "PRELU"))
    """Operators that know nothing of codes, so that they are given real numbers."""
    _real = False

    def takes_codes(self, kind: str) -> bool:
        """Whether an operator has a quantised form."""
        return kind in self._SUPPORTED_QUANTIZED_OPS or kind in self._OVER_REALS

    def converted(self, operator: Any, kind: str) -> Any:
        """What an operator gives; None where that is a constant, which the converter remembers."""
        outputs = self.get_output_tensors(operator)
        if kind not in self._OVER_REALS or not outputs[0].qnn_params:
            return self.convert_map[kind](op=operator)
        self._real = True
        try:
            result = self.bb.normalize(self.convert_map[kind](op=operator))
        finally:
            self._real = False
        return self.quantize(result, outputs[0])

    def get_tensors(self, tensors_idx_list: Any) -> Any:
        """Tensors by their places, which say nothing of codes while real numbers are given."""
        tensors = super().get_tensors(tensors_idx_list)
        if self._real:
            for tensor in tensors:
                tensor.codes, tensor.qnn_params = tensor.qnn_params, None
        return tensors

    def get_tensor_expr(self, tensor: Any, is_sparse: bool = False) -> Any:
        """What stands for a tensor."""
        expression = super().get_tensor_expr(tensor, is_sparse)
        if not self._real or not tensor.codes:
            return expression
        codes = tensor.codes
        return self.bb.normalize(relax.op.dequantize(expression, codes["scale"], codes["zero_point"], codes["axis"]))

    def convert_softmax(self, op: Any) -> Any:
        """As TVM does, but with the factor before the exponential, which it leaves out."""
        from tflite.SoftmaxOptions import SoftmaxOptions

        options = SoftmaxOptions()
        options.Init(op.BuiltinOptions().Bytes, op.BuiltinOptions().Pos)
        if options.Beta() == 1:
            return super().convert_softmax(op)
        tensor, output = self.get_input_tensors(op)[0], self.get_output_tensors(op)[0]
        value = self.get_expr(tensor.tensor_idx)
        if tensor.qnn_params:
            value = self.dequantize(value, tensor)
        shares = relax.op.nn.softmax(relax.op.multiply(value, relax.const(options.Beta(), "float32")), axis=-1)
        return self.quantize(shares, output) if output.qnn_params else shares

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
