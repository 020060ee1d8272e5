"""What to use in place of an operator that cannot be compiled."""

_ADVICE = {
    "If": "export only the branch that is used, or compute both and select with Where",
    "Loop": "export with a fixed number of iterations",
    "Scan": "export with a fixed sequence length",
}


def advise(operator: str) -> str:
    """The nearest form that compiles; empty where there is none to name."""
    return _ADVICE.get(operator, "")
