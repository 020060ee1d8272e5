"""One cache for all compiles of a run."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where artifacts go, and plugins that count instructions."""
    return tmp_path_factory.mktemp("cache")
