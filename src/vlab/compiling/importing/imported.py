"""What every importer gives."""

from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]

UNNAMED = "that computes "
"""Begins the name given to a node without one; its outputs follow."""


@dataclass(frozen=True)
class Imported:
    """A model as Relax, and what its inputs and outputs are called."""

    module: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notices: tuple[str, ...]
    nodes: dict[str, str] = field(default_factory=dict)
    """Names of the model's nodes by the name of the variable in `main` that holds their result, in the model's order."""
