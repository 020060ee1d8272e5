"""Fourier transforms as matrix products with constant cosines and sines, and frames as constant places.

Definitions: ONNX Operators, DFT (versions 17 and 20) and STFT (version 17).
"""

import numpy as np

from vlab.compiling.importing.rewriting.node import FormError, Node
from vlab.compiling.importing.rewriting.rules import Emitter, rewrites
from vlab.datasets import Array

_LONGEST = 4096
"""A transform is a dense matrix, so its cost is the square of its length."""


@rewrites("DFT")
def _dft(node: Node, emit: Emitter) -> str:
    x = node.input(0)
    shape = emit.graph.shape(x)
    if node.version >= 20:
        axis = int(emit.graph.need(node.input(2), "its axis").item()) if node.input(2) else -2
    else:
        axis = node.get("axis", 1)
    axis %= len(shape)
    length = int(emit.graph.need(node.input(1), "its length").item()) if node.input(1) else 0
    return _transformed(x, axis, length, emit, inverse=bool(node.get("inverse", 0)), onesided=bool(node.get("onesided", 0)))


@rewrites("STFT")
def _stft(node: Node, emit: Emitter) -> str:
    signal = node.input(0)
    step = int(emit.graph.need(node.input(1), "its frame_step").item())
    window = node.input(2)
    length = emit.graph.shape(window)[0] if window else 0
    if node.input(3):
        length = int(emit.graph.need(node.input(3), "its frame_length").item())
    samples = emit.graph.shape(signal)[1]
    frames = (samples - length) // step + 1
    if length < 1 or frames < 1:
        raise FormError(f"frames of {length} of a signal of {samples}")
    places = np.arange(frames)[:, None] * step + np.arange(length)
    framed = emit("Gather", signal, places.astype(np.int64), axis=1)  # [batch, frames, length, 1 or 2]
    if window:
        framed = emit("Mul", framed, emit("Reshape", window, [1, 1, length, 1]))
    onesided = bool(node.get("onesided", 1)) and emit.graph.shape(signal)[-1] == 1
    return _transformed(framed, 2, length, emit, inverse=False, onesided=onesided)


def _transformed(x: str, axis: int, length: int, emit: Emitter, *, inverse: bool, onesided: bool) -> str:
    """The transform of [..., real and imaginary part, or the real part alone] along an axis."""
    shape = emit.graph.shape(x)
    parts = shape[-1]
    if axis == len(shape) - 1 or parts not in (1, 2):
        raise FormError(f"its input {list(shape)} has no last axis of 1 or 2 for real and imaginary parts")
    length = length or (2 * (shape[axis] - 1) if inverse and onesided else shape[axis])
    if length > _LONGEST:
        raise FormError(f"its length is {length}; expected at most {_LONGEST}")
    given = shape[axis]
    if inverse and onesided:
        return _real_inverse(x, axis, length, emit)
    bins = length // 2 + 1 if onesided else length
    used = min(given, length)  # a longer input is cut, a shorter one is followed by zeros
    matrix = _matrix(used, bins, length, inverse=inverse)
    if given > length:
        x = emit("Slice", x, [0], [length], [axis])
    blocks = np.concatenate([matrix.real, matrix.imag], axis=1)
    if parts == 2:
        blocks = np.concatenate([blocks, np.concatenate([-matrix.imag, matrix.real], axis=1)], axis=0)
    return _multiplied(x, axis, used, blocks, (bins, 2), emit)


def _real_inverse(x: str, axis: int, length: int, emit: Emitter) -> str:
    """The real signal whose one-sided spectrum is given: each inner bin stands for its conjugate too."""
    given = min(emit.graph.shape(x)[axis], length // 2 + 1)
    x = emit("Slice", x, [0], [given], [axis])
    matrix = _matrix(given, length, length, inverse=True)
    twice = np.where((np.arange(given) == 0) | (2 * np.arange(given) == length), 1.0, 2.0)[:, None]
    blocks = np.concatenate([matrix.real * twice, -matrix.imag * twice], axis=0)
    return _multiplied(x, axis, given, blocks, (length, 1), emit)


def _matrix(rows: int, columns: int, length: int, *, inverse: bool) -> Array:
    angle = 2 * np.pi * (np.outer(np.arange(rows), np.arange(columns)) % length) / length
    matrix: Array = np.exp(1j * angle) / length if inverse else np.exp(-1j * angle)
    return matrix


def _multiplied(x: str, axis: int, used: int, blocks: Array, out: tuple[int, int], emit: Emitter) -> str:
    """[..., used along the axis, ..., parts] as [..., parts × used] times blocks, and back to the place of the axis."""
    shape = emit.graph.shape(x)
    rank, parts = len(shape), shape[-1]
    others = [place for place in range(rank - 1) if place != axis]
    moved = emit("Transpose", x, perm=[*others, rank - 1, axis])
    flat = emit("Reshape", moved, [*(shape[place] for place in others), parts * used])
    product = emit("MatMul", flat, blocks.astype(emit.graph.dtype(x)))
    spread = emit("Reshape", product, [*(shape[place] for place in others), out[1], out[0]])
    back = [*range(axis), rank - 1, *range(axis, rank - 2), rank - 2]
    return emit("Transpose", spread, perm=back)
