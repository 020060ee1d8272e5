"""The tiles of the schedule."""

from hypothesis import given
from hypothesis import strategies as st

from vlab.compiling.schedule import Registers
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
