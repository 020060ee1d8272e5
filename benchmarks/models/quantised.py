"""int8 twins in QDQ form, made by ONNX Runtime's own static quantiser with seeded calibration data.

Weights are symmetric per output channel, activations asymmetric per tensor, both int8: TensorFlow Lite's scheme
(ai.google.dev/edge/litert/models/quantization_spec), so that one kind of integer kernel serves both formats.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.models.graph import Network

CALIBRATION_SAMPLES = 16


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    """Normal numbers for floats, ones for whole numbers, for which the only case is a mask."""

    def __init__(self, model: Any) -> None:
        random = np.random.default_rng(2024)
        self._rows = iter([self._row(model, random) for _ in range(CALIBRATION_SAMPLES)])

    @staticmethod
    def _row(model: Any, random: np.random.Generator) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for one in model.graph.input:
            shape = [dimension.dim_value for dimension in one.type.tensor_type.shape.dim]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type)
            row[one.name] = (random.standard_normal(shape) if dtype.kind == "f" else np.ones(shape)).astype(dtype)
        return row

    def get_next(self) -> Mapping[str, Any] | None:
        return next(self._rows, None)


def quantise(network: Network) -> Network:
    """The twin of a network; it costs the same multiply-accumulates, in int8."""
    with tempfile.TemporaryDirectory() as scratch:
        plain, prepared, quantised = (Path(scratch) / f"{name}.onnx" for name in ("plain", "prepared", "quantised"))
        onnx.save(network.model, plain)
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantised),
            _Samples(network.model),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        model = onnx.load(quantised)
    onnx.checker.check_model(model, full_check=True)
    return Network(model, network.macs, network.parameters)
