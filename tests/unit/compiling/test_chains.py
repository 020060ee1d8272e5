"""How far int16 sums of products reach: by the weights alone, whatever the data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.compiling.integer.dialects.chains import groupings, longest_run


@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.floats(5, 90),
    chains=st.sampled_from([(4,), (8,), (4, 4), (4, 2, 2), (2, 2, 2, 2)]),
)
def test_an_order_lets_every_lane_hold_its_sum(seed: int, width: float, chains: tuple[int, ...]):
    """With the data that makes each sum largest, either way, no partial sum of an order that was found leaves int16."""
    scaled = np.random.default_rng(seed).standard_normal((16, 2 * sum(chains))) * width
    weights = np.clip(np.round(scaled), -127, 127).astype(np.int8)
    orders = groupings(weights[np.newaxis], chains)
    if orders is None:
        return
    (order,) = orders
    assert list(range(weights.shape[1])) == sorted(order.tolist())
    placed, start = weights[:, order].astype(np.int64), 0
    for length in chains:
        for lane in range(2):
            taken = placed[:, start + lane : start + 2 * length : 2]
            for worst in (-128 * np.sign(taken), np.where(taken > 0, 127, -128)):
                sums = np.cumsum(taken * worst, axis=1)
                assert sums.max() <= 2**15 - 1
                assert sums.min() >= -(2**15)
        start += 2 * length


@pytest.mark.parametrize(("largest", "chains"), [(63, (4, 4)), (127, (2, 2, 2, 2)), (31, (8,))])
def test_weights_that_always_fit_keep_their_order(largest: int, chains: tuple[int, ...]):
    """Where any order does, bytes stay where they are."""
    weights = np.full((2, 4, 16), largest, np.int8)
    orders = groupings(weights, chains)
    assert orders is not None
    assert [list(range(16))] * 2 == [order.tolist() for order in orders]


@pytest.mark.parametrize("weights", [[64] * 16, [100] * 9 + [0] * 7], ids=["sum too large", "third of 100 too much"])
def test_no_order_is_claimed_where_none_exists(weights: list[int]):
    """Four sums of four have no room for them, however they are placed; then there is none for other chunks either."""
    fits = np.zeros((1, 16), np.int8)
    assert groupings(np.stack([fits, np.array([weights], np.int8)]), (4, 4)) is None
    assert groupings(fits[np.newaxis], (4, 4)) is not None


def test_neighbours_are_summed_up_as_far_as_int16_holds_them():
    """Three products of weights of 64 and data of -128 fit, a fourth does not."""
    assert 3 == longest_run(np.full((1, 16), 64, np.int8))
