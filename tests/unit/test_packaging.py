"""What is in the wheel."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

REPO = Path(__file__).parents[2]
DATA = "vlab/_data/"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    with ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_every_target_and_the_harness_are_in_the_wheel(wheel: dict[str, bytes]) -> None:
    """All of `targets/` is data of the package, byte for byte, but for the plugin."""
    files = [path for path in (REPO / "targets").rglob("*") if path.is_file() and path.parent.name != "plugin"]
    expected = {f"{DATA}{path.relative_to(REPO)}": path.read_bytes() for path in files}

    assert expected == {name: data for name, data in wheel.items() if name.startswith(f"{DATA}targets/")}


def test_the_wheel_is_under_one_licence(wheel: dict[str, bytes]) -> None:
    """No file in it claims the licence of QEMU's plugin."""
    claim = b"SPDX-License-Identifier: " + b"GPL"
    assert (REPO / "targets" / "plugin" / "insn.c").read_bytes().count(claim)
    assert [] == [name for name, data in wheel.items() if claim in data]
