"""`python -m benchmarks.models DIRECTORY [NAME ...]`: write models, all of them where none is named."""

import sys
from pathlib import Path

from benchmarks import models


def main() -> None:
    """Write the models and print their paths."""
    if len(sys.argv) < 2 or not set(sys.argv[2:]) <= set(models.NAMES):
        sys.exit(f"expected: python -m benchmarks.models DIRECTORY [NAME ...], with names out of {', '.join(models.NAMES)}")
    for name in sys.argv[2:] or models.NAMES:
        print(models.write(name, Path(sys.argv[1])))


if __name__ == "__main__":
    main()
