"""Walk an ONNX file's protocol buffer without any library and without trusting a length in it.

Numbers of fields are those of onnx.proto, the encoding that of protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vlab.errors import ModelError

MAX_FIELDS: Final = 1_000_000
"""That are looked at; a model of the largest size could be nothing but a billion of them."""

VARINT: Final = 0
LENGTH: Final = 2
_FIXED = {1: 8, 5: 4}

MODEL, FUNCTION, TRAINING, GRAPH, NODE, ATTRIBUTE = "model", "function", "training", "graph", "node", "attribute"
TENSOR, SPARSE = "tensor", "sparse tensor"
INNER = {
    (MODEL, 7): GRAPH,
    (MODEL, 20): TRAINING,
    (MODEL, 25): FUNCTION,
    (TRAINING, 1): GRAPH,
    (TRAINING, 2): GRAPH,
    (FUNCTION, 7): NODE,
    (GRAPH, 1): NODE,
    (GRAPH, 5): TENSOR,
    (GRAPH, 15): SPARSE,
    (NODE, 5): ATTRIBUTE,
    (ATTRIBUTE, 5): TENSOR,
    (ATTRIBUTE, 6): GRAPH,
    (ATTRIBUTE, 10): TENSOR,
    (ATTRIBUTE, 11): GRAPH,
    (ATTRIBUTE, 22): SPARSE,
    (ATTRIBUTE, 23): SPARSE,
    (SPARSE, 1): TENSOR,
    (SPARSE, 2): TENSOR,
}
"""Message within a field of a message, of those that graphs and weights are in."""

_TOO_MANY = f"the model consists of more than {MAX_FIELDS} fields, expected at most that; export it again"


@dataclass(frozen=True)
class Field:
    """One field of a message."""

    number: int
    wire_type: int
    start: int
    """Offset of its tag."""
    value: int
    """The number itself for `VARINT`, otherwise the offset of the first byte of the content."""
    end: int
    """Offset after the field, which may lie beyond the end of a truncated file."""


@dataclass(frozen=True)
class Survey:
    """What the structure of a model shows."""

    operators: int
    """In all graphs, as far as they were counted."""
    depth: int
    """Graphs within each other; 1 without control flow."""
    external: bool
    """Whether a weight is kept in another file."""


def fields(content: bytes | memoryview, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of a message; ends early at what no message holds.

    Raises:
        IndexError: the message ends within a number.
        ModelError: there are more than `MAX_FIELDS`.
    """
    at, end, count = start, len(content) if end is None else end, 0
    while at < end:
        count += 1
        if count > MAX_FIELDS:
            raise ModelError(_TOO_MANY)
        begin = at
        tag, at = varint(content, at)
        wire_type, value = tag & 7, at
        if wire_type == VARINT:
            value, at = varint(content, at)
        elif wire_type == LENGTH:
            length, value = varint(content, at)
            at = value + length
        elif wire_type in _FIXED:
            at += _FIXED[wire_type]
        yield Field(tag >> 3, wire_type, begin, value, at)
        if wire_type not in (VARINT, LENGTH, *_FIXED):
            return


def survey(content: bytes | memoryview, *, most_operators: int, most_depth: int) -> Survey:
    """Count operators and nesting, no further than one beyond the limits; a damaged part counts as far as it can be read.

    Raises:
        ModelError: there are more than `MAX_FIELDS` fields.
    """
    operators, deepest, external, count = 0, 0, False, 0
    waiting: list[tuple[str, int, int, int]] = [(MODEL, 0, len(content), 0)]
    while waiting and operators <= most_operators and deepest <= most_depth:
        kind, start, end, depth = waiting.pop()
        depth += kind == GRAPH
        operators += kind == NODE
        deepest = max(deepest, depth)
        try:
            for field in fields(content, start, end):
                count += 1
                if count > MAX_FIELDS:
                    raise ModelError(_TOO_MANY)
                if field.end > end:
                    break
                if kind == TENSOR:
                    external |= is_external(field)
                elif field.wire_type == LENGTH and (inner := INNER.get((kind, field.number))):
                    waiting.append((inner, field.value, field.end, depth))
        except IndexError:
            continue
    return Survey(operators, deepest, external)


def is_external(field: Field) -> bool:
    """Whether a tensor's field says that its values are in another file (`data_location` = EXTERNAL)."""
    return field.number == 14 and field.wire_type == VARINT and field.value == 1


def varint(content: bytes | memoryview, at: int) -> tuple[int, int]:
    """The number at an offset, seven bits a byte with the lowest first, and the offset after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return value, at


def encoded(number: int) -> bytes:
    """A number as `varint` reads it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
