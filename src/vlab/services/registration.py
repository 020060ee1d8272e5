"""Make the lab known to its Prefect server, in processes of their own: the library does not import Prefect."""

import json
import select
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from vlab.errors import TransientError
from vlab.journal import write_whole
from vlab.services.layout import Layout
from vlab.services.parts import prefect_environment
from vlab.settings import checkout, own_targets

DEADLINE_S = 180.0

_REGISTERED_FROM = ("prefect.yaml", "flows/*.py", "tasks/*.py", "blocks/*.py", "targets/*/*.toml", "src/vlab/records/*.py")
"""Everything in the checkout that shows in Prefect: deployments, forms, blocks."""


def register(
    layout: Layout, setup: dict[str, Any], *, wait_for_server: Callable[[], None], on_pools: Callable[[], None]
) -> bool:
    """Create or update pools, limits, automation, blocks and deployments; nothing is done where nothing has changed.

    Args:
        layout: the lab.
        setup: what `blocks.register` is to create.
        wait_for_server: returns when Prefect answers. Registration starts before: its imports take as long as the server's.
        on_pools: called once the pools exist, when workers may start.

    Returns:
        Whether there was anything to do.

    Raises:
        TransientError: registering failed or took too long; the message has the end of its log.
    """
    stamp, digest = layout.home / "prefect" / "registered", _digest(setup)
    if stamp.exists() and stamp.read_text().strip() == digest:
        wait_for_server()
        on_pools()
        return False
    file = layout.home / "setup.json"
    write_whole(file, json.dumps(setup, indent=2).encode())
    environment = prefect_environment(layout, "prefect")
    log = layout.home / "logs" / "registration.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    running: list[subprocess.Popen[bytes]] = []

    def run(*words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *words]
        process = subprocess.Popen(
            command, cwd=checkout(), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stream
        )
        running.append(process)
        return process

    give_up = time.monotonic() + DEADLINE_S
    with log.open("wb") as stream:
        try:
            blocks = run("blocks.register", str(file))
            wait_for_server()
            if not _announced(blocks, give_up):
                raise TransientError(_failure(log))
            on_pools()
            run("prefect", "--no-prompt", "deploy", "--all")
            for process in running:
                out, _ = process.communicate(timeout=max(give_up - time.monotonic(), 1))
                stream.write(out)
                if process.returncode != 0:
                    raise TransientError(_failure(log))
        except subprocess.TimeoutExpired as error:
            raise TransientError(_failure(log)) from error
        finally:
            for process in running:
                process.kill()
                process.wait()
    write_whole(stamp, digest.encode())
    return True


def _announced(process: subprocess.Popen[bytes], give_up: float) -> bool:
    """Whether the process wrote its first line in time."""
    out: IO[bytes] | None = process.stdout
    if out is None:
        return False
    ready, _, _ = select.select([out], [], [], max(give_up - time.monotonic(), 0))
    return bool(ready) and out.readline().strip() == b"pools"


def _failure(log: Path) -> str:
    words = log.read_text(errors="replace").strip().splitlines()[-12:]
    return "\n".join([f"the lab could not be registered with Prefect; the end of {log}:", *(f"  | {line}" for line in words)])


def _digest(setup: dict[str, Any]) -> str:
    """Changes with everything that Prefect would be told."""
    digest = sha256(json.dumps([setup, metadata.version("prefect")], sort_keys=True).encode())
    shipped = [path for pattern in _REGISTERED_FROM for path in sorted(checkout().glob(pattern))]
    for path in [*shipped, *sorted(own_targets().glob("*/*.toml"))]:
        digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()
