"""What a firmware image takes of a microcontroller's memories, section by section, and whether it fits."""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np

from vlab import processes
from vlab.compiling import exchange
from vlab.compiling.exchange import Product
from vlab.errors import CompileError
from vlab.records import Kernel, KernelCall, MemoryRegion, MemorySection
from vlab.targets import Firmware, Target

INPUT_ALIGNMENT = 16
"""Of each input in memory, as targets/harness/firmware.c lays them out."""

_WORDS = {
    "text": "code",
    "rodata": "constants of the code",
    "data": "initialised variables",
    "bss": "variables",
    "arena": "arena between layers",
    "workspace": "workspace within a layer",
}
"""What sections of targets/harness/firmware.ld hold, where their name does not say it."""
_IN_FLASH, _IN_RAM = (
    ("text", "rodata", "weights", "ARM.exidx", "data"),
    ("stack", "data", "thread", "arena", "workspace", "inputs", "bss"),
)
_PADDING = "padding"
_MANY_BYTES = 10 << 20
"""From here on sizes are told in MiB."""
_LARGEST = 3
"""Layers that a message names."""

_PT_LOAD, _SHF_ALLOC, _SHF_TLS = 1, 0x2, 0x400


@dataclass(frozen=True)
class Layer:
    """What one layer of the model takes."""

    name: str
    weights_bytes: int
    tensors_bytes: int
    """What it reads and writes, all of which is in memory while it runs."""
    workspace_bytes: int


def layers(calls: Sequence[KernelCall], kernels: Sequence[Kernel]) -> list[Layer]:
    """What every kernel call takes, under the names of the model's nodes."""
    workspace = {kernel.name: kernel.workspace_bytes for kernel in kernels}
    return [
        Layer(
            name="+".join(call.nodes) or call.kernel,
            weights_bytes=call.weight_bytes,
            tensors_bytes=call.input_bytes + call.output_bytes,
            workspace_bytes=workspace[call.kernel],
        )
        for call in calls
    ]


def inputs_bytes(product: Product) -> int:
    """Memory for the inputs of one sample."""
    sizes = (prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in product.inputs)
    return sum(-(-size // INPUT_ALIGNMENT) * INPUT_ALIGNMENT for size in sizes)


def expect_room(firmware: Firmware, product: Product, layers: Sequence[Layer]) -> None:
    """Refuse a model of which weights or tensors alone exceed the board, before anything is linked.

    Raises:
        CompileError: says by how much, for which sections, and which layers take most.
    """
    flash = {"weights": product.weights_bytes}
    ram = {
        "stack": firmware.stack_bytes,
        "arena": product.arena_bytes,
        "workspace": product.workspace_bytes,
        "inputs": inputs_bytes(product),
    }
    _expect_fit([_region("flash", firmware.flash_bytes, flash), _region("ram", firmware.ram_bytes, ram)], layers)


def measure(image: bytes, firmware: Firmware, layers: Sequence[Layer]) -> tuple[MemoryRegion, ...]:
    """Flash and RAM by the image's own section headers.

    Args:
        image: an ELF file linked by targets/harness/firmware.ld.
        firmware: where the board's memories are, and how large.
        layers: of the model, for the message.

    Raises:
        CompileError: a memory is too small; says by how much, with every section, and which layers take most.
    """
    sizes, ends = _allocated(image)
    if strange := sorted(set(sizes) - {*_IN_FLASH, *_IN_RAM}):
        raise CompileError(f"the image has sections that belong to neither flash nor RAM: {', '.join(strange)}; compile again")
    flash_end, ram_end = ends
    flash = {name: sizes[name] for name in _IN_FLASH if name in sizes}
    ram = {name: sizes[name] for name in _IN_RAM if name in sizes}
    flash[_PADDING] = flash_end - firmware.flash_origin - sum(flash.values())
    ram[_PADDING] = ram_end - firmware.ram_origin - sum(ram.values())
    regions = (_region("flash", firmware.flash_bytes, flash), _region("ram", firmware.ram_bytes, ram))
    _expect_fit(regions, layers)
    return regions


def _region(name: Literal["flash", "ram"], limit_bytes: int, sizes: Mapping[str, int]) -> MemoryRegion:
    sections = tuple(MemorySection(name=part, size_bytes=size) for part, size in sizes.items() if size)
    return MemoryRegion(name=name, limit_bytes=limit_bytes, used_bytes=sum(sizes.values()), sections=sections)


def stack_used(executable: Path, target: Target, *, timeout_s: float) -> int:
    """Bytes of the stack that were written to over two samples of the probe beside the image.

    Raises:
        CompileError: the image failed.
        MissingToolError: the emulator is not installed.
        LimitError: it took too long.
    """
    argv = target.command(executable, ["memory", exchange.PROBE])
    done = processes.run_limited(argv, timeout_s=timeout_s, cwd=executable.parent)
    try:
        return int(json.loads(done.stdout)["stack_bytes"])
    except (ValueError, KeyError, TypeError) as error:
        raise CompileError(f"the image for {target.name} does not tell its use of the stack: {done.last_words}") from error


def _expect_fit(regions: Sequence[MemoryRegion], layers: Sequence[Layer]) -> None:
    told = [_shortage(region, layers) for region in regions if region.used_bytes > region.limit_bytes]
    if told:
        raise CompileError(
            f"the model is too large for the board: {'; '.join(told)}. Take a smaller or quantised model, or a larger board"
        )


def _shortage(region: MemoryRegion, layers: Sequence[Layer]) -> str:
    memory = "flash" if region.name == "flash" else "RAM"
    parts = sorted(region.sections, key=lambda section: -section.size_bytes)
    told = ", ".join(f"{_WORDS.get(part.name, part.name)} {_told(part.size_bytes)}" for part in parts if part.size_bytes)
    return (
        f"it needs {_told(region.used_bytes)} of {memory} and the board has {_told(region.limit_bytes)}, which is "
        f"{_told(region.used_bytes - region.limit_bytes)} too little: {told}{_largest(region, layers)}"
    )


def _largest(region: MemoryRegion, layers: Sequence[Layer]) -> str:
    """The layers that take most of a memory."""
    if region.name == "flash":
        takes = [{"weights": layer.weights_bytes} for layer in layers]
    else:
        takes = [{"tensors": layer.tensors_bytes, "workspace": layer.workspace_bytes} for layer in layers]
    largest = sorted(zip(layers, takes, strict=True), key=lambda pair: -sum(pair[1].values()))[:_LARGEST]
    told = [
        f"{layer.name} ({', '.join(f'{_told(size)} of {what}' for what, size in taken.items() if size)})"
        for layer, taken in largest
        if any(taken.values())
    ]
    return f"; largest layers: {', '.join(told)}" if told else ""


def _told(size: int) -> str:
    if size >= _MANY_BYTES:
        return f"{size / (1 << 20):.1f} MiB"
    return f"{size / 1024:.1f} KiB" if size >= 1024 else f"{size} B"


def _allocated(image: bytes) -> tuple[Mapping[str, int], tuple[int, int]]:
    """Sizes of the sections that take memory on the board, without the leading dot, and the ends of flash and RAM.

    Layouts of the headers: System V gABI, chapter 4 and 5. The flash ends where the last loaded byte of the file belongs.
    """
    wide = image[4] == 2
    header = struct.unpack_from("<16xHHIQQQIHHHHHH" if wide else "<16xHHIIIIIHHHHHH", image)
    program_offset, section_offset = header[4], header[5]
    program_count, section_count, names_index = header[9], header[11], header[12]

    flash_end = 0
    for index in range(program_count):
        if wide:
            kind, _, _, _, load, size, _, _ = struct.unpack_from("<IIQQQQQQ", image, program_offset + 56 * index)
        else:
            kind, _, _, load, size, _, _, _ = struct.unpack_from("<IIIIIIII", image, program_offset + 32 * index)
        if kind == _PT_LOAD and size:
            flash_end = max(flash_end, load + size)

    layout = struct.Struct("<IIQQQQIIQQ" if wide else "<IIIIIIIIII")
    sections = [layout.unpack_from(image, section_offset + layout.size * index) for index in range(section_count)]
    names = sections[names_index][4]
    sizes, ram_end = {}, 0
    for name_at, _, flags, address, _, size, *_ in sections:
        if flags & _SHF_ALLOC and not flags & _SHF_TLS and size:
            start = names + name_at
            name = image[start : image.index(b"\0", start)].decode("ascii").removeprefix(".")
            sizes[name] = size
            if name in _IN_RAM:
                ram_end = max(ram_end, address + size)
    return sizes, (flash_end, ram_end)
