"""Read a model into TVM's Relax: one module for each format, with every refusal before TVM would fail without naming a node."""

from vlab.compiling.importing.from_onnx import import_onnx
from vlab.compiling.importing.from_tflite import import_tflite
from vlab.compiling.importing.imported import Imported, Shape

__all__ = ["Imported", "Shape", "import_onnx", "import_tflite"]
