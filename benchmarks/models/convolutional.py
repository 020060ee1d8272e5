"""Convolutional networks, as exporters leave them for inference: batch normalisation folded into the convolutions.

The three small ones are the networks of the tiny suite of microcontroller benchmarks (github.com/mlcommons/tiny, folder
`benchmark/training`), which Keras pads at the end where the stride leaves an odd row. The two large ones are torchvision's
(`models/mobilenetv2.py`, `models/resnet.py`) after `torch.onnx.export` in evaluation mode, which folds too.
"""

from benchmarks.models.graph import Graph, Network

_ONE = [(1, 1), (1, 1)]
"""Padding of a 3x3 window in PyTorch, whatever the stride."""


def ds_cnn() -> Network:
    """Keyword spotting: [1, 1, 49, 10] to 12 probabilities."""
    graph = Graph("ds-cnn", seed=1)
    data = graph.input("features", (1, 1, 49, 10))
    data = graph.relu(graph.convolution(data, "stem", channels=64, kernel=(10, 4), stride=2))
    for block in range(1, 5):
        data = graph.relu(graph.convolution(data, f"block{block}.depthwise", channels=64, kernel=(3, 3), depthwise=True))
        data = graph.relu(graph.convolution(data, f"block{block}.pointwise", channels=64, kernel=(1, 1)))
    return graph.finish(graph.classifier(data, 12, softmax=True))


def resnet8() -> Network:
    """Image classification: [1, 3, 32, 32] to 10 probabilities."""
    graph = Graph("resnet8", seed=2)
    data = graph.input("image", (1, 3, 32, 32))
    data = graph.relu(graph.convolution(data, "stem", channels=16, kernel=(3, 3)))
    for stack, channels in enumerate((16, 32, 64), start=1):
        stride = 1 if stack == 1 else 2
        name = f"stack{stack}"
        inner = graph.relu(graph.convolution(data, f"{name}.conv1", channels=channels, kernel=(3, 3), stride=stride))
        inner = graph.convolution(inner, f"{name}.conv2", channels=channels, kernel=(3, 3), gain=1.0)
        if stack > 1:
            data = graph.convolution(data, f"{name}.shortcut", channels=channels, kernel=(1, 1), stride=stride, gain=1.0)
        data = graph.relu(graph.add(data, inner, f"{name}.add"))
    return graph.finish(graph.classifier(data, 10, softmax=True))


def mobilenet_v1_025() -> Network:
    """Person detection (visual wake words), width 0.25: [1, 3, 96, 96] to 2 probabilities."""
    graph = Graph("mobilenet-v1-0.25", seed=3)
    data = graph.input("image", (1, 3, 96, 96))
    data = graph.relu(graph.convolution(data, "stem", channels=8, kernel=(3, 3), stride=2))
    pairs = [(1, 16), (2, 32), (1, 32), (2, 64), (1, 64), (2, 128), *5 * [(1, 128)], (2, 256), (1, 256)]
    for block, (stride, channels) in enumerate(pairs, start=1):
        inputs = graph.shape(data)[1]
        name = f"block{block}"
        data = graph.convolution(data, f"{name}.depthwise", channels=inputs, kernel=(3, 3), stride=stride, depthwise=True)
        data = graph.relu(data)
        data = graph.relu(graph.convolution(data, f"{name}.pointwise", channels=channels, kernel=(1, 1)))
    return graph.finish(graph.classifier(data, 2, softmax=True))


def mobilenet_v2() -> Network:
    """ImageNet classification, width 1.0: [1, 3, 224, 224] to 1000 logits."""
    graph = Graph("mobilenet-v2", seed=4)
    data = graph.input("image", (1, 3, 224, 224))
    data = graph.relu6(graph.convolution(data, "stem", channels=32, kernel=(3, 3), stride=2, padding=_ONE))
    settings = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    block = 0
    for expansion, channels, repeats, first_stride in settings:
        for repeat in range(repeats):
            block += 1
            stride = first_stride if repeat == 0 else 1
            data = _inverted_residual(graph, data, f"block{block}", expansion, channels, stride)
    data = graph.relu6(graph.convolution(data, "head", channels=1280, kernel=(1, 1)))
    return graph.finish(graph.classifier(data, 1000, softmax=False))


def _inverted_residual(graph: Graph, data: str, name: str, expansion: int, channels: int, stride: int) -> str:
    inputs = graph.shape(data)[1]
    hidden = inputs * expansion
    inner = data
    if expansion != 1:
        inner = graph.relu6(graph.convolution(inner, f"{name}.expand", channels=hidden, kernel=(1, 1)))
    inner = graph.convolution(
        inner, f"{name}.depthwise", channels=hidden, kernel=(3, 3), stride=stride, padding=_ONE, depthwise=True
    )
    inner = graph.convolution(graph.relu6(inner), f"{name}.project", channels=channels, kernel=(1, 1), gain=1.0)
    return graph.add(data, inner, f"{name}.add") if stride == 1 and inputs == channels else inner


def resnet18() -> Network:
    """ImageNet classification: [1, 3, 224, 224] to 1000 logits."""
    graph = Graph("resnet18", seed=5)
    data = graph.input("image", (1, 3, 224, 224))
    data = graph.relu(graph.convolution(data, "stem", channels=64, kernel=(7, 7), stride=2, padding=[(3, 3), (3, 3)]))
    data = graph.node("MaxPool", [data], "maxpool", (1, 64, 56, 56), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for layer, channels in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            stride = 2 if layer > 1 and block == 0 else 1
            name = f"layer{layer}.{block}"
            inner = graph.convolution(data, f"{name}.conv1", channels=channels, kernel=(3, 3), stride=stride, padding=_ONE)
            inner = graph.relu(inner)
            inner = graph.convolution(inner, f"{name}.conv2", channels=channels, kernel=(3, 3), padding=_ONE, gain=0.5)
            if stride != 1:
                data = graph.convolution(data, f"{name}.downsample", channels=channels, kernel=(1, 1), stride=2, gain=1.0)
            data = graph.relu(graph.add(inner, data, f"{name}.add"))
    return graph.finish(graph.classifier(data, 1000, softmax=False))
