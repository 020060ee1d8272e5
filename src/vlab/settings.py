"""What the command line and the SDK read from the environment: VLAB_HOME, VLAB_PORT_BASE, VLAB_TARGETS; nothing else does."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vlab.errors import RefusedError


@dataclass(frozen=True)
class Settings:
    """Where the lab's state lives and which ports a local lab takes."""

    home: Path
    """Directory that holds all state of the local lab, its runs and the compile cache."""
    port_base: int
    """First of the consecutive ports a local lab listens on: Prefect, MLflow, Sigstore, chain."""

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read VLAB_HOME (default: `vlab` under XDG_STATE_HOME) and VLAB_PORT_BASE (default: 4200).

        Raises:
            RefusedError: VLAB_PORT_BASE is not a port number.
        """
        base = os.environ.get("VLAB_PORT_BASE", "4200")
        if not base.isdigit() or not 1024 <= int(base) <= 65500:
            raise RefusedError(f"VLAB_PORT_BASE is {base!r}, expected a number from 1024 to 65500")
        return cls(home=_home(), port_base=int(base))

    @property
    def profile(self) -> Path:
        """The lab profile that `vlab up` writes."""
        return self.home / "lab.json"

    @property
    def compile_cache(self) -> Path:
        """Compiled artifacts by cache key."""
        return self.home / "cache" / "compile"

    @property
    def runs(self) -> Path:
        """One directory a request: its journal."""
        return self.home / "runs"


def _home() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(os.environ.get("VLAB_HOME") or Path(state) / "vlab").expanduser().absolute()


def own_targets() -> Path:
    """The folder of targets beside those that ship: VLAB_TARGETS (default: `targets` in VLAB_HOME); it need not exist."""
    return Path(os.environ.get("VLAB_TARGETS") or _home() / "targets").expanduser().absolute()


def no_proxy(environment: Mapping[str, str]) -> str:
    """NO_PROXY with loopback in it: no proxy reaches what listens on this machine only."""
    given = [host for host in (environment.get("NO_PROXY") or environment.get("no_proxy", "")).split(",") if host.strip()]
    return ",".join(dict.fromkeys([*given, "127.0.0.1", "localhost"]))


def checkout() -> Path:
    """The project checkout this package runs from.

    Raises:
        RefusedError: vlab was installed without its checkout, so there are no flows to run.
    """
    root = Path(__file__).resolve().parents[2]
    if (root / "prefect.yaml").is_file():
        return root
    raise RefusedError(
        f"vlab is installed at {Path(__file__).parent} without its checkout, and running a lab needs the flows in it; "
        "clone the project and run `make setup` there"
    )


def data_dir(name: str) -> Path:
    """A folder of data that ships with vlab: `targets` or `chain` (the compiled contracts)."""
    packaged = Path(__file__).parent / "_data" / name
    if packaged.is_dir():
        return packaged
    root = Path(__file__).resolve().parents[2]
    return root / "chain" / "compiled" if name == "chain" else root / name
