"""The layout rules of docs/architecture.md, as tests."""

import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).parents[2]
DATA_FOLDERS = ("mlflow", "targets")
DEPLOYMENTS = yaml.safe_load((REPO / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("folder", DATA_FOLDERS)
def test_data_folder_holds_no_python(folder: str) -> None:
    """A Python file there could shadow the library of the same name."""
    assert [] == list((REPO / folder).rglob("*.py"))


def test_no_module_shadows_another() -> None:
    """A file in flows/, tasks/ or blocks/ is not named like a standard or installed module."""
    taken = set(sys.stdlib_module_names) | set(metadata.packages_distributions())
    ours = {p.stem for f in ("flows", "tasks", "blocks") for p in (REPO / f).glob("*.py")} - {"__init__"}
    assert set() == ours & taken


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_entrypoint_imports(deployment: dict[str, str]) -> None:
    """Every deployment names an importable flow by module path."""
    module, _, name = deployment["entrypoint"].rpartition(".")

    assert ":" not in deployment["entrypoint"]
    assert callable(getattr(import_module(module), name))


def test_form_offers_every_target() -> None:
    """The choice in the run form is the target files."""
    from flows.benchmark import benchmark
    from vlab import targets

    offered = benchmark.parameters.model_dump()["properties"]["targets"]["items"]["enum"]
    files = sorted(str(p.relative_to(REPO / "targets").with_suffix("")) for p in (REPO / "targets").rglob("*.toml"))

    assert files == offered
    assert files == sorted(targets.known())


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    """`vlab --help` answers before any heavy library is needed."""
    heavy = ["prefect", "mlflow", "tvm", "sigstore", "web3", "sqlalchemy", "pandas", "numpy", "onnx", "onnxruntime"]
    code = f"import sys, vlab.cli; print([m for m in {heavy} if m in sys.modules])"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    assert "[]" == got


LIBRARY = ("compiling", "deploying", "measuring", "tracking", "signing", "ledger", "anchoring", "verifying")


@pytest.mark.parametrize("module", LIBRARY)
def test_library_does_not_import_prefect(module: str) -> None:
    """In a fresh interpreter: a check inside this process depends on what ran before."""
    code = f"import sys, vlab.{module}; sys.exit('prefect' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_requirements_name_no_registry() -> None:
    """Pinned by version and hash, whatever registry a machine uses."""
    lines = [line for file in (REPO / "requirements").glob("*.txt") for line in file.read_text().splitlines()]
    assert [] == [line for line in lines if "://" in line or line.startswith(("--index", "--extra-index", "--find-links"))]
