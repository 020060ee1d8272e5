"""The schedule: dispatch to rules, reasons, tiles."""

from typing import Any

import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm import te, tirx, topi

from vlab.compiling import schedule
from vlab.compiling.schedule import Registers, UnfitError, schedule_module
from vlab.compiling.schedule.tiling import pick_tiles

sizes = st.integers(1, 512)


@given(channels=sizes, width=sizes, lanes=st.sampled_from([1, 4, 8, 16]), accumulators=st.integers(1, 32))
def test_tiles_divide_and_their_sums_fit_into_registers(channels: int, width: int, lanes: int, accumulators: int):
    """Tiles divide their loops, and the vectors of a tile are no more than the accumulators."""
    channel_tile, width_tile = pick_tiles(channels, width, Registers(lanes, accumulators))

    assert 0 == channels % channel_tile
    assert 0 == width % width_tile
    assert -(-channel_tile // lanes) * width_tile <= accumulators


@given(channels=sizes, lanes=st.sampled_from([4, 8, 16]))
def test_a_full_vector_of_channels_is_never_split(channels: int, lanes: int):
    """Where the channels fill whole vectors, the tile is one vector or more."""
    channel_tile, _ = pick_tiles(channels * lanes, 1, Registers(lanes, 8))

    assert channel_tile >= lanes


def kernel(build: Any) -> Any:
    """A module with one kernel from a function of a float32 matrix."""
    matrix = te.placeholder((8, 32), "float32", "matrix")
    return tvm.IRModule({"kernel": te.create_prim_func([matrix, *build(matrix)])})


def two_reductions(matrix: Any) -> list[Any]:
    """Each row divided by its sum, then summed again."""
    first, second = te.reduce_axis((0, 32), "first"), te.reduce_axis((0, 32), "second")
    total = te.compute((8,), lambda i: te.sum(matrix[i, first], axis=first), "total")
    scaled = te.compute((8, 32), lambda i, j: matrix[i, j] / total[i], "scaled")
    return [te.compute((8,), lambda i: te.sum(scaled[i, second], axis=second), "again")]


def test_a_kernel_that_the_rule_only_fits_in_part_is_reported_with_the_reason():
    """Two reductions are never counted as scheduled."""
    _, (report,) = schedule_module(kernel(two_reductions), Registers(8, 12))

    assert not report.scheduled
    assert "2 reductions" in report.reason


def test_a_computation_names_its_rule_and_falls_back_with_the_reason(monkeypatch: pytest.MonkeyPatch):
    """The annotation chooses the rule; a rule that does not fit says why and the general one follows."""

    def never(function: Any, registers: Registers) -> Any:
        raise UnfitError("it never does")

    monkeypatch.setitem(schedule.RULES, "never", never)
    module = kernel(lambda matrix: [te.compute((8, 32), lambda i, j: matrix[i, j] * 2.0, attrs={schedule.ANNOTATION: "never"})])

    scheduled, (report,) = schedule_module(module, Registers(8, 12))

    assert "never: it never does" == report.reason
    assert "vectorized" in scheduled.script()


@pytest.mark.parametrize("lanes", [4, 8])
def test_concatenation_and_padding_are_cut_at_their_seams_into_vectors(lanes: int):
    """No condition is left that differs within a vector, and what the axis has beyond whole vectors is vectors too."""
    one, other = te.placeholder((6, 5), "float32", "one"), te.placeholder((6, 21), "float32", "other")
    padded = topi.nn.pad(topi.concatenate([one, other], 1), [1, 3], [0, 4])
    module = tvm.IRModule({"kernel": te.create_prim_func([one, other, padded])})

    scheduled, (report,) = schedule_module(module, Registers(lanes, 12))
    (function,) = scheduled.functions.values()
    lowered = tvm.transform.Sequential([tirx.transform.FlattenBuffer(), tirx.transform.StmtSimplify()])(
        tvm.IRModule({"kernel": function})
    )

    assert report.scheduled
    text = lowered.script()
    assert f"T.vectorized({lanes})" in text.replace("T.int64", "").replace("((", "(").replace("))", ")")
    assert not [
        line for line in text.splitlines() if "if_then_else" in line and "lane" in line.split("if_then_else")[1].split(",")[0]
    ]
