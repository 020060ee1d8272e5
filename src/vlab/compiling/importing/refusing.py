"""What a model is refused with: every operator that cannot be compiled in one message, whatever the format."""

from collections.abc import Sequence
from dataclasses import dataclass

from vlab.compiling.importing.advice import advise


@dataclass(frozen=True)
class Refused:
    """A node that cannot be compiled."""

    operator: str
    """With its domain where that is not ONNX's own."""
    node: str
    why: str = ""
    """What about its form; empty where the operator is unknown."""


def refusal(refused: Sequence[Refused]) -> str:
    """All that cannot be compiled in one message: operators by name with their nodes, the reason, and what to use instead."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for one in refused:
        nodes.setdefault((one.operator, one.why), []).append(one.node)
    told = []
    for (operator, why), names in sorted(nodes.items()):
        advice = advise(operator)
        told.append(
            f"{operator} (node {', '.join(dict.fromkeys(names))}){f': {why}' if why else ''}{f'; {advice}' if advice else ''}"
        )
    return f"the model has operators that cannot be compiled: {'. '.join(told)}"
