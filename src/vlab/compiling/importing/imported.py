"""What every importer gives."""

from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Imported:
    """A model as Relax, and what its inputs and outputs are called."""

    module: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notices: tuple[str, ...]
