"""The models that are measured: made here, the same bytes every time, with random weights.

    path = write("ds-cnn", Path("models"))

`python -m benchmarks.models DIRECTORY [NAME ...]` writes them into a directory.
"""

from collections.abc import Callable
from pathlib import Path

from benchmarks.models import convolutional, transformer
from benchmarks.models.graph import Network
from vlab.journal import write_whole

FLOAT: dict[str, Callable[[], Network]] = {
    "ds-cnn": convolutional.ds_cnn,
    "resnet8": convolutional.resnet8,
    "mobilenet-v1-0.25": convolutional.mobilenet_v1_025,
    "mobilenet-v2": convolutional.mobilenet_v2,
    "resnet18": convolutional.resnet18,
    "bert-6": transformer.bert,
}
INT8_SUFFIX = "-int8"
NAMES = (*FLOAT, *(f"{name}{INT8_SUFFIX}" for name in FLOAT))


def build(name: str) -> Network:
    """A model by name; those that end in `-int8` are quantised twins."""
    if not name.endswith(INT8_SUFFIX):
        return FLOAT[name]()
    from benchmarks.models.quantised import quantise  # here, for the quantiser takes a second to import

    return quantise(FLOAT[name.removesuffix(INT8_SUFFIX)]())


def write(name: str, directory: Path) -> Path:
    """Write a model as `NAME.onnx` into a directory, unless it is there."""
    path = directory / f"{name}.onnx"
    if not path.is_file():
        write_whole(path, build(name).model.SerializeToString(deterministic=True))
    return path
