"""How many products of int8 one int16 can sum up, whatever the data: decided by the weights."""

import numpy as np
import numpy.typing as npt

_LARGEST_CODE = 128
"""Largest magnitude of an int8."""
_LARGEST_INT16 = 2**15 - 1
_LONGEST_CHAIN = 8


def longest_chain(weights: npt.NDArray[np.int8], chunk: int, lanes: int) -> int:
    """Chunks whose products one int16 can sum up, whatever the data; 0 if not even one.

    A lane sums up the products of every `lanes`-th byte, and the data may be -128 throughout.
    """
    steps = weights.shape[1] // chunk
    magnitudes = np.abs(weights[:, : steps * chunk].astype(np.int64)).reshape(len(weights), steps, chunk // lanes, lanes)
    return _longest(magnitudes.sum(axis=2), _LONGEST_CHAIN)


def longest_run(weights: npt.NDArray[np.int8]) -> int:
    """Neighbouring taps [channel, tap] whose products one int16 can sum up, whatever the data; at least 1."""
    return max(1, _longest(np.abs(weights.astype(np.int64))[:, :, np.newaxis], weights.shape[1]))


def _longest(magnitudes: npt.NDArray[np.int64], most: int) -> int:
    """Longest groups of steps, of [row, step, lane], that no lane sums up to more than an int16 holds; 0 if not even one."""
    rows, steps, lanes = magnitudes.shape
    for length in range(min(most, steps), 0, -1):
        filled = np.pad(magnitudes, ((0, 0), (0, -steps % length), (0, 0)))
        sums = filled.reshape(rows, -1, length, lanes).sum(axis=2)
        if sums.max(initial=0) * _LARGEST_CODE <= _LARGEST_INT16:
            return length
    return 0
