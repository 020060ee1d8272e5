"""Kinds of board that this machine can run executables for."""

import pytest

from vlab import targets
from vlab.errors import MissingToolError
from vlab.targets import Target


def ready(name: str) -> Target:
    """The target; skips where this machine cannot serve it, with the command that installs what is missing."""
    target = targets.load(name)
    try:
        for tool in target.tools:
            tool.find()
    except MissingToolError as error:
        pytest.skip(str(error))
    if not (target.native or target.emulated):
        pytest.skip(f"{name} needs other hardware than this machine")
    return target
