"""Operators of ONNX Runtime's own domain, which its optimiser puts into models that are saved from it.

Definitions: docs/ContribOperators.md of ONNX Runtime.
"""

from vlab.compiling.importing.rewriting.node import FormError, Node
from vlab.compiling.importing.rewriting.rules import Emitter, rewrites

DOMAIN = "com.microsoft"
_GELU_VERSION = 20


@rewrites("Gelu", "BiasGelu", domain=DOMAIN)
def _gelu(node: Node, emit: Emitter) -> str:
    return emit("Gelu", _biased(node, emit), version=_GELU_VERSION)


@rewrites("FastGelu", domain=DOMAIN)
def _fast_gelu(node: Node, emit: Emitter) -> str:
    return emit("Gelu", _biased(node, emit), version=_GELU_VERSION, approximate="tanh")


def _biased(node: Node, emit: Emitter) -> str:
    return emit("Add", node.input(0), node.input(1)) if node.input(1) else node.input(0)


@rewrites("SkipLayerNormalization", domain=DOMAIN)
def _skip_layer_normalization(node: Node, emit: Emitter) -> list[str]:
    if node.wants(1) or node.wants(2):
        raise FormError("its outputs mean and inv_std_var are for training; export the model for inference")
    total = emit("Add", node.input(0), node.input(1))
    if node.input(4):
        total = emit("Add", total, node.input(4))
    weights = [node.input(2), *([node.input(3)] if node.input(3) else [])]
    y = emit("LayerNormalization", total, *weights, axis=-1, epsilon=node.get("epsilon", 1e-12))
    return [y, "", "", total]
