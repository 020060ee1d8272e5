"""How many products of int8 one int16 can sum up, whatever the data: decided by the weights."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_LARGEST_CODE = 128
"""Largest magnitude of an int8."""
_LARGEST_INT16 = 2**15 - 1
_LIMIT = _LARGEST_INT16 // _LARGEST_CODE
"""Of the sum of magnitudes of weights whose products one int16 can sum up."""
_ATTEMPTS = 4
"""To find an order, each from another one."""


def longest_run(weights: npt.NDArray[np.int8]) -> int:
    """Neighbouring taps [channel, tap] whose products one int16 can sum up, whatever the data; at least 1."""
    magnitudes = np.abs(weights.astype(np.int64))
    rows, taps = magnitudes.shape
    for length in range(taps, 1, -1):
        sums = np.pad(magnitudes, ((0, 0), (0, -taps % length))).reshape(rows, -1, length).sum(axis=2)
        if sums.max(initial=0) * _LARGEST_CODE <= _LARGEST_INT16:
            return length
    return 1


def groupings(chunks: npt.NDArray[np.int8], chains: Sequence[int]) -> list[npt.NDArray[np.int8]] | None:
    """For each chunk an order of bytes in which int16 holds the sums of products that two lanes make of each chain.

    They hold them whatever the data. Bytes are exchanged in pairs, those that help most first, from the natural order on and
    then from random ones; nothing is searched for where the sums of all bytes are too large for any order.

    Args:
        chunks: weights [chunk, channel, byte].
        chains: pairs of neighbouring bytes in each chain; one lane sums up the first of all pairs, one the second.

    Returns:
        For each place the byte that stands there; None if a chunk is left without an order.
    """
    magnitudes = np.abs(chunks.astype(np.int64))
    if magnitudes.sum(axis=2).max() > 2 * len(chains) * _LIMIT:
        return None
    groups = np.repeat(2 * np.arange(len(chains)), 2 * np.asarray(chains)) + np.arange(chunks.shape[2]) % 2
    orders = []
    for chunk in magnitudes:
        order = _order(chunk, groups)
        if order is None:
            return None
        orders.append(order)
    return orders


def _order(magnitudes: npt.NDArray[np.int64], groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int8] | None:
    """An order for one chunk, with the group of each place."""
    order, random = np.arange(len(groups)), np.random.default_rng(0)
    for _ in range(_ATTEMPTS):
        if _exchanged(magnitudes, groups, order):
            return order.astype(np.int8)
        random.shuffle(order)
    return None


def _exchanged(magnitudes: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], order: npt.NDArray[np.int64]) -> bool:
    """Exchange bytes of an order until no group passes the limit; whether that came about."""
    first, second = np.triu_indices(len(groups), 1)
    apart = groups[first] != groups[second]
    first, second = first[apart], second[apart]
    members = np.arange(groups.max() + 1)[:, np.newaxis] == groups
    sums = magnitudes[:, order] @ members.T
    while (over := np.maximum(sums - _LIMIT, 0)).any():
        moved = magnitudes[:, order[second]] - magnitudes[:, order[first]]
        here, there = groups[first], groups[second]
        gain = (over[:, here] - np.maximum(sums[:, here] + moved - _LIMIT, 0)).sum(axis=0)
        gain += (over[:, there] - np.maximum(sums[:, there] - moved - _LIMIT, 0)).sum(axis=0)
        best = int(gain.argmax())
        if gain[best] <= 0:
            return False
        sums[:, here[best]] += moved[:, best]
        sums[:, there[best]] -= moved[:, best]
        order[[first[best], second[best]]] = order[[second[best], first[best]]]
    return True
