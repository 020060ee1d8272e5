"""What is said of a model that does not fit, before anything is linked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab import targets
from vlab.compiling import memory
from vlab.compiling.exchange import ProbeCase, Product
from vlab.compiling.memory import Layer
from vlab.errors import CompileError
from vlab.records import Kernel, KernelCall, TensorSpec
from vlab.targets import Firmware

KIB = 1024
LAYERS = [
    Layer("stem+relu", weights_bytes=1 * KIB, tensors_bytes=90 * KIB, workspace_bytes=48 * KIB),
    Layer("pool", weights_bytes=0, tensors_bytes=20 * KIB, workspace_bytes=0),
    Layer("dense", weights_bytes=300 * KIB, tensors_bytes=2 * KIB, workspace_bytes=0),
]


def firmware(flash_bytes: int, ram_bytes: int) -> Firmware:
    """A Cortex-M4 with these memories and 4 KiB of stack."""
    board = targets.load("arm/cortex-m4").firmware
    assert board is not None
    return board.model_copy(update={"flash_bytes": flash_bytes, "ram_bytes": ram_bytes, "stack_bytes": 4 * KIB})


def product(*, arena: int, workspace: int, weights: int, dtype: str = "float32") -> Product:
    """A model of these sizes, with one input of 10 values."""
    return Product(
        notices=(),
        llvm="22",
        reference="none",
        cases=(ProbeCase(name="none", inputs=1, edge=False),),
        inputs=(TensorSpec(name="x", shape=(1, 10), dtype=dtype),),
        outputs=(),
        kernels=(),
        threads=1,
        arena_bytes=arena,
        workspace_bytes=workspace,
        weights_bytes=weights,
    )


def test_a_shortage_is_told_in_sections_and_layers():
    """By how much, which sections from the largest down, and the layers that take most of that memory."""
    big = product(arena=98 * KIB, workspace=48 * KIB, weights=310 * KIB)
    with pytest.raises(CompileError) as caught:
        memory.expect_room(firmware(512 * KIB, 128 * KIB), big, LAYERS)

    assert str(caught.value) == (
        "the model is too large for the board: it needs 150.0 KiB of RAM and the board has 128.0 KiB, which is 22.0 KiB too "
        "little: arena between layers 98.0 KiB, workspace within a layer 48.0 KiB, stack 4.0 KiB, inputs 48 B; largest layers: "
        "stem+relu (90.0 KiB of tensors, 48.0 KiB of workspace), pool (20.0 KiB of tensors), dense (2.0 KiB of tensors). "
        "Take a smaller or quantised model, or a larger board"
    )


def test_both_memories_are_told_at_once():
    """Whoever has to shrink a model learns everything in one message."""
    with pytest.raises(
        CompileError, match=r"of flash .* largest layers: dense \(300.0 KiB of weights\), stem.* of RAM "
    ) as caught:
        memory.expect_room(firmware(256 * KIB, 32 * KIB), product(arena=98 * KIB, workspace=0, weights=310 * KIB), LAYERS)
    assert "pool (0" not in str(caught.value)


@given(arena=st.integers(0, 64 * KIB), workspace=st.integers(0, 64 * KIB), ram=st.integers(1, 192 * KIB))
def test_what_fits_is_never_refused_and_what_does_not_always_is(arena: int, workspace: int, ram: int):
    """Law: refused exactly if stack, arena, workspace and inputs together exceed the memory."""
    needed = 4 * KIB + arena + workspace + 48
    model = product(arena=arena, workspace=workspace, weights=0)
    if needed <= ram:
        memory.expect_room(firmware(1, ram), model, ())
    else:
        with pytest.raises(CompileError, match="of RAM"):
            memory.expect_room(firmware(1, ram), model, ())


@pytest.mark.parametrize(("dtype", "size"), [("float32", 48), ("int8", 16), ("bool", 16), ("float16", 32), ("int64", 80)])
def test_inputs_take_their_bytes_rounded_up_to_16(dtype: str, size: int):
    """As targets/harness/firmware.c lays them out."""
    assert size == memory.inputs_bytes(product(arena=0, workspace=0, weights=0, dtype=dtype))


def test_layers_are_named_after_the_models_nodes():
    """A kernel without nodes keeps its own name; workspace is the kernel's."""
    calls = [
        KernelCall(kernel="conv", nodes=("a", "b"), macs=1, weight_bytes=2, input_bytes=3, output_bytes=4),
        KernelCall(kernel="pad", nodes=(), macs=0, weight_bytes=0, input_bytes=5, output_bytes=6),
    ]
    kernels = [Kernel(name="conv", scheduled=True, workspace_bytes=64), Kernel(name="pad", scheduled=True)]

    assert [Layer("a+b", 2, 7, 64), Layer("pad", 0, 11, 0)] == memory.layers(calls, kernels)
