"""Train the digits example and write `digits.onnx` and `digits-test.npz` beside this file.

A depthwise-separable convolutional network on the 8x8 handwritten digits that come with scikit-learn. Everything is seeded
and runs on one thread, so the same versions on the same kind of CPU give the same bytes.

    python -m venv env && env/bin/pip install torch==2.13.0 scikit-learn==1.9.1 onnx==1.23.2 onnxruntime==1.32.0
    env/bin/python train.py
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).parent
SEED = 20240
EPOCHS = 80
BATCH = 64
TEST_SHARE = 0.25
OPSET = 18
IR_VERSION = 8  # read by every runtime of the last years


class Digits(nn.Module):
    """Convolution, two depthwise + pointwise blocks with pooling, dense layer; logits for 10 classes.

    Input float32 [N, 1, 8, 8] in 0..1, output [N, 10]. 309,504 multiply-accumulates and 13,002 parameters once the batch
    normalisations are folded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(32)
        self.depthwise1 = nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False)
        self.depthwise1_norm = nn.BatchNorm2d(32)
        self.pointwise1 = nn.Conv2d(32, 64, 1, bias=False)
        self.pointwise1_norm = nn.BatchNorm2d(64)
        self.depthwise2 = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
        self.depthwise2_norm = nn.BatchNorm2d(64)
        self.pointwise2 = nn.Conv2d(64, 128, 1, bias=False)
        self.pointwise2_norm = nn.BatchNorm2d(128)
        self.dense = nn.Linear(128, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of a batch of images."""
        x = torch.relu(self.stem_norm(self.stem(image)))
        x = torch.relu(self.depthwise1_norm(self.depthwise1(x)))
        x = torch.relu(self.pointwise1_norm(self.pointwise1(x)))
        x = nn.functional.max_pool2d(x, 2)
        x = torch.relu(self.depthwise2_norm(self.depthwise2(x)))
        x = torch.relu(self.pointwise2_norm(self.pointwise2(x)))
        return self.dense(x.mean(dim=(2, 3)))


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and held-out images float32 [N, 1, 8, 8] in 0..1, and their labels int64 [N]; each sample is in one of them."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    return train_test_split(images, labels, test_size=TEST_SHARE, random_state=SEED, stratify=labels)


def shifted(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image moved by -1, 0 or 1 pixels in both directions."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    offsets = torch.randint(0, 3, (len(images), 2), generator=generator)
    return torch.stack([one[:, y : y + 8, x : x + 8] for one, (y, x) in zip(padded, offsets.tolist(), strict=True)])


def train(images: np.ndarray, labels: np.ndarray) -> Digits:
    """The trained model, in evaluation mode."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    generator = torch.Generator().manual_seed(SEED)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    model = Digits()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(x), generator=generator).split(BATCH):
            optimizer.zero_grad()
            loss_of(model(shifted(x[chosen], generator)), y[chosen]).backward()
            optimizer.step()
        schedule.step()
    return model.eval()


def to_onnx(model: Digits) -> onnx.ModelProto:
    """The model with static batch 1, batch normalisations folded into the convolutions, and a softmax at the end."""
    nodes, weights = [], []

    def constant(name: str, value: torch.Tensor) -> str:
        weights.append(numpy_helper.from_array(value.detach().numpy().astype(np.float32), name))
        return name

    def convolution(name: str, source: str) -> str:
        layer, norm = getattr(model, name), getattr(model, f"{name}_norm")
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        inputs = [
            source,
            constant(f"{name}.weight", layer.weight * scale[:, None, None, None]),
            constant(f"{name}.bias", norm.bias - norm.running_mean * scale),
        ]
        side, margin = layer.kernel_size[0], layer.padding[0]
        geometry = {"kernel_shape": [side, side], "pads": [margin] * 4, "group": layer.groups}
        nodes.append(helper.make_node("Conv", inputs, [f"{name}.out"], name=name, **geometry))
        nodes.append(helper.make_node("Relu", [f"{name}.out"], [f"{name}.relu"], name=f"{name}_relu"))
        return f"{name}.relu"

    x = convolution("pointwise1", convolution("depthwise1", convolution("stem", "image")))
    nodes.append(helper.make_node("MaxPool", [x], ["pooled"], name="pool", kernel_shape=[2, 2], strides=[2, 2]))
    x = convolution("pointwise2", convolution("depthwise2", "pooled"))
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["averaged"], name="average"))
    nodes.append(helper.make_node("Flatten", ["averaged"], ["features"], name="flatten", axis=1))
    dense = ["features", constant("dense.weight", model.dense.weight), constant("dense.bias", model.dense.bias)]
    nodes.append(helper.make_node("Gemm", dense, ["logits"], name="dense", transB=1))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax", axis=1))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])],
        initializer=weights,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    proto.producer_name = "vlab examples/digits"
    onnx.checker.check_model(proto, full_check=True)
    return proto


def accuracy(proto: onnx.ModelProto, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose likeliest class is the label, by ONNX Runtime."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found = [int(session.run(None, {"image": image[None]})[0].argmax()) for image in images]
    return float(np.mean(np.array(found) == labels))


def main() -> None:
    """Train, write both files, print the accuracies."""
    train_x, test_x, train_y, test_y = split()
    proto = to_onnx(train(train_x, train_y))
    (HERE / "digits.onnx").write_bytes(proto.SerializeToString(deterministic=True))
    np.savez_compressed(HERE / "digits-test.npz", x=test_x, y=test_y)
    parameters = sum(int(np.prod(weight.dims)) for weight in proto.graph.initializer)
    print(f"{parameters} parameters, {len(train_y)} training and {len(test_y)} test images")
    print(f"accuracy: training {accuracy(proto, train_x, train_y):.4f}, test {accuracy(proto, test_x, test_y):.4f}")


if __name__ == "__main__":
    main()
