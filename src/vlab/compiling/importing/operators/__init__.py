"""Our own converters: operators that TVM's importer lacks or gets wrong and that other ONNX operators cannot express."""

from vlab.compiling.importing.operators import elementwise, ordering  # noqa: F401 - modules register their converters
from vlab.compiling.importing.operators.registry import CONVERTERS

__all__ = ["CONVERTERS"]
