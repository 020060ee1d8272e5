"""Where a local lab keeps what, on which ports, with which boards; settled by its first start."""

import json
import secrets
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlab import targets
from vlab.errors import RefusedError
from vlab.journal import write_whole
from vlab.records import Board, BoardInfo
from vlab.settings import Settings

DEFAULT_PORT_BASE = 4200
PARTNERS = ("partner-a", "partner-b")
POOLS = ("lab", *PARTNERS)
"""Work pools; each has one worker of the same name."""


@dataclass(frozen=True)
class Layout:
    """Paths and addresses of one local lab."""

    home: Path
    port_base: int
    instance: str
    """Random id of this lab: part of its ledger's origin, so that no two labs share one."""
    anvil: bool
    """Whether its chain is anvil's: so where anvil was on PATH when the lab first started, and from then on."""

    @classmethod
    def of(cls, settings: Settings, *, create: bool = False) -> "Layout":
        """The lab in `settings.home`, as its first start settled it.

        Args:
            settings: home and ports from the environment.
            create: settle it now where it is new.

        Raises:
            RefusedError: the environment names other ports than the lab has.
        """
        file = settings.home / "instance.json"
        if file.exists():
            known = json.loads(file.read_bytes())
            if settings.port_base not in (known["port_base"], DEFAULT_PORT_BASE):
                raise RefusedError(
                    f"the lab in {settings.home} has its ports from {known['port_base']}, and VLAB_PORT_BASE says "
                    f"{settings.port_base}; its certificates name the port, so unset it, or set VLAB_HOME to a new lab"
                )
            return cls(settings.home, known["port_base"], known["instance"], known["anvil"])
        fresh = cls(settings.home, settings.port_base, secrets.token_hex(8), shutil.which("anvil") is not None)
        if create:
            settled = {"port_base": fresh.port_base, "instance": fresh.instance, "anvil": fresh.anvil}
            write_whole(file, json.dumps(settled).encode())
        return fresh

    @property
    def prefect_url(self) -> str:
        """Prefect's UI; its API is below `/api`."""
        return self._url(0)

    @property
    def tracking_url(self) -> str:
        """MLflow's UI and API."""
        return self._url(1)

    @property
    def sigstore_url(self) -> str:
        """The local Sigstore instance, which is also the OIDC issuer."""
        return self._url(2)

    @property
    def chain_url(self) -> str:
        """JSON-RPC of the development chain."""
        return self._url(3)

    @property
    def ledger_origin(self) -> str:
        """The name of this lab's ledger."""
        return f"vlab.local/{self.instance}"

    @property
    def key_file(self) -> Path:
        """Keystore of the account that publishes ledger heads."""
        return self.home / "keys" / "chain.json"

    @property
    def password_file(self) -> Path:
        """The keystore's password."""
        return self.home / "keys" / "chain.password"

    @property
    def outbox(self) -> Path:
        """Transactions that are not final yet."""
        return self.home / "keys" / "outbox.db"

    @property
    def leases(self) -> Path:
        """Who holds which board: Prefect's leases, below its server's PREFECT_HOME."""
        return self.prefect_home("prefect") / "concurrency_leases"

    def worker_home(self, pool: str) -> Path:
        """The only state a worker knows of: the lab's own, or the partner's directory."""
        return self.home if pool == "lab" else self.home / "partners" / pool

    def prefect_home(self, process: str) -> Path:
        """PREFECT_HOME of the server or of a pool's worker."""
        return self.home / "prefect" if process == "prefect" else self.worker_home(process) / "worker"

    def _url(self, offset: int) -> str:
        return f"http://127.0.0.1:{self.port_base + offset}"


def boards(home: Path) -> list[Board]:
    """The boards that this machine can be or emulate: those that ship, and those of `boards.toml` in the lab's home.

    Raises:
        TargetError: a board's target is unknown.
        RefusedError: the home's file is wrong; says where.
    """
    found: list[Board] = []
    for file in (Path(__file__).parent / "boards.toml", home / "boards.toml"):
        for partner, name, kind in _declared(file) if file.is_file() else ():
            if name in {board.name for board in found}:
                raise RefusedError(f"{file}: board {name} is declared twice or ships with the project; give yours another name")
            target = targets.load(kind)
            if target.native or target.emulated:
                info = BoardInfo(name=name, partner=partner, target=target.name, emulated=target.emulated)
                emulator: Literal["qemu-system", "qemu-user"] = "qemu-system" if target.firmware else "qemu-user"
                found.append(Board(info=info, transport=emulator if target.emulated else "local"))
    return found


def _declared(file: Path) -> Iterator[tuple[str, str, str]]:
    """Partner, name and target of each board in a file.

    Raises:
        RefusedError: it is not such a file.
    """
    expected = 'expected tables such as [partner-a.my-board] with target = "FAMILY/BOARD"'
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RefusedError(f"{file}: {error}; {expected}") from error
    for partner, entries in table.items():
        if partner not in PARTNERS:
            raise RefusedError(f"{file}: {partner!r} is no partner of this lab, expected one of: {', '.join(PARTNERS)}")
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            if not isinstance(entry, dict) or set(entry) != {"target"} or not isinstance(entry["target"], str):
                raise RefusedError(f"{file}: {partner}.{name} is {entry!r}, {expected}")
            yield partner, name, entry["target"]
