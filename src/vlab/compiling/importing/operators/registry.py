"""The registry of our own converters."""

from collections.abc import Callable
from typing import Any

Converter = Callable[[Any, list[Any], dict[str, Any]], Any]
"""Of a block builder, the inputs as Relax expressions (None for what is left out) and the attributes; gives the outputs."""

CONVERTERS: dict[tuple[str, str], Converter] = {}
"""Domain and operator → converter."""


def converts(*operators: str, domain: str = "") -> Callable[[Converter], Converter]:
    """Register a converter for operators."""

    def register(converter: Converter) -> Converter:
        for operator in operators:
            CONVERTERS[domain, operator] = converter
        return converter

    return register
