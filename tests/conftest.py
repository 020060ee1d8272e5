"""What holds for every test."""

import sys

import pytest
from hypothesis import settings

# Being slow on a busy machine is no wrong answer; pytest's own limit ends what hangs.
settings.register_profile("vlab", deadline=None)
settings.load_profile("vlab")


@pytest.fixture(autouse=True)
def _ordinary_recursion_limit() -> None:
    """py-evm raises the interpreter's limit when imported, and deep JSON then overflows the stack of Python 3.11."""
    sys.setrecursionlimit(1000)
