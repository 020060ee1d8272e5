"""Matrix products of all forms through the whole lowering, called on this machine."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.compiling import native
from vlab.compiling.schedule import Registers
from vlab.compiling.schedule.product import pick_tile
from vlab.targets import Target

SHAPES = [  # left, right; constants are right matrices of rank 2 and more
    ((1, 64, 48), (48, 96)),
    ((1, 7, 10), (10, 13)),
    ((1, 1, 33), (33, 40)),
    ((50, 5), (5, 1)),
    ((3, 1), (1, 17)),
    ((2, 3, 5, 7), (7, 4)),
    ((5, 7), (1, 1, 7, 9)),
    ((2, 3, 9, 7), (2, 3, 7, 6)),
    ((2, 3, 9, 7), (3, 7, 16)),
    ((3, 5, 7), (2, 1, 7, 11)),
    ((2, 1, 19, 8), (1, 3, 8, 33)),
    ((1, 8), (4, 8, 3)),
    ((13, 100), (100, 65)),
]


def rank(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Rank of a product."""
    return max(len(left), len(right))


@pytest.fixture(params=native.TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    """Three ways in which registers may be."""
    return native.TARGETS[request.param]


def test_products_of_all_shapes_equal_the_reference(target: Target, tmp_path: Path):
    """Ranks, broadcast batches, odd sizes; the right matrix known or not."""
    model = native.Collected()
    for left, right in SHAPES:
        for known in (False, True):
            model.output(model.node("MatMul", model.value(*left), model.value(*right, known=known)), rank(left, right))
    model.output(model.node("MatMul", model.value(6, 5, known=True), model.value(5, 24)), 2)

    report = model.agree(target, tmp_path)

    assert [] == [kernel for kernel in report if kernel.reason]


def test_transposes_around_products_are_no_kernels(target: Target, tmp_path: Path):
    """Heads of an attention: both sides and the result are transposed, and no kernel but the two products is left."""
    model = native.Collected()
    query, key, value = (
        model.node("Transpose", model.value(1, 9, 3, 16), perm=order) for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    )
    scores = model.node("MatMul", query, key)
    model.output(model.node("Transpose", model.node("MatMul", scores, value), perm=[0, 2, 1, 3]), 4)

    report = model.agree(target, tmp_path)

    assert 2 == len(report)
    assert [] == [kernel for kernel in report if kernel.reason]


def test_what_follows_a_product_is_fused_or_left_apart(target: Target, tmp_path: Path):
    """Bias, residual and activation; a sum that widens the result; a result that is read twice; a transpose of rows."""
    model = native.Collected()
    product = model.node("MatMul", model.value(1, 7, 12), model.value(12, 20, known=True))
    biased = model.node("Add", model.value(20, known=True), product)
    model.output(model.node("Tanh", model.node("Add", biased, model.value(1, 7, 20))), 3)
    wide = model.node("MatMul", model.value(7, 12), model.value(12, 20, known=True))
    model.output(model.node("Add", wide, model.value(2, 3, 7, 20)), 4)
    twice = model.node("MatMul", model.value(2, 7, 12), model.value(2, 12, 5))
    model.output(model.node("Transpose", twice, perm=[1, 0, 2]), 3)
    model.output(model.node("Relu", twice), 3)
    model.output(
        model.node("Transpose", model.node("MatMul", model.value(7, 12), model.value(12, 3, known=True)), perm=[1, 0]), 2
    )

    model.agree(target, tmp_path)


@given(
    rows=st.integers(1, 300),
    columns=st.integers(1, 300),
    lanes=st.sampled_from([1, 4, 8, 16]),
    accumulators=st.integers(1, 32),
    whole=st.booleans(),
)
def test_a_tile_fits_into_the_registers_and_the_result(rows: int, columns: int, lanes: int, accumulators: int, whole: bool):
    """Never more sums than accumulators, nor more rows than there are; whole vectors of the CPU's lanes or a part of them."""
    tile = pick_tile(rows, columns, Registers(lanes, accumulators), whole=whole)

    assert tile.rows * tile.vectors <= accumulators
    assert tile.rows <= rows
    assert 0 == lanes % tile.width
