"""The services of a local lab: how each is started, where it is, and how to tell that it answers."""

import json
import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from vlab.services import probes
from vlab.services.daemons import Daemon, refuse_taken_port
from vlab.services.layout import POOLS, Layout
from vlab.settings import checkout, no_proxy, own_targets
from vlab.sigstore_local import DEFAULT_CLIENTS

_FOREIGN = ("PREFECT_", "MLFLOW_", "VLAB_", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""Variables of the user's own set-up that must not reach the lab's processes."""


@dataclass(frozen=True)
class Service:
    """One part of the lab."""

    name: str
    address: str
    daemon: Daemon
    answers: Callable[[], bool]
    deadline_s: float
    """How long it may take to start."""
    grace_s: float = 10
    """How long it may take to stop."""

    @property
    def running(self) -> bool:
        """Whether its process lives and answers."""
        return self.daemon.pid() is not None and self.answers()

    def check_port(self) -> None:
        """Check that its port is free, or its own.

        Raises:
            RefusedError: its port is taken by somebody else.
        """
        port = urlsplit(self.address).port
        if port is not None and not self.daemon.members():
            refuse_taken_port(port, self.name)

    def start(self) -> bool:
        """Start it unless its process lives; returns whether it was started.

        Raises:
            RefusedError: its port is taken by somebody else.
        """
        if self.daemon.pid() is not None:
            return False
        self.daemon.stop(grace_s=2)  # where only its parent was killed, a child may still hold the port
        self.check_port()
        self.daemon.start()
        return True


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of the lab: the user's, without what would redirect it, and nothing reported home."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    return kept | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        "NO_PROXY": no_proxy(kept),
        "no_proxy": no_proxy(kept),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",  # a log is read when something died
        "VLAB_TARGETS": str(own_targets()),  # one folder for all workers of this machine, whose homes differ
        **extra,
    }


def prefect_environment(layout: Layout, process: str) -> dict[str, str]:
    """The environment of whatever talks to the lab's Prefect server: the server itself, a worker, registration."""
    return environment({"PREFECT_HOME": str(layout.prefect_home(process)), "PREFECT_API_URL": f"{layout.prefect_url}/api"})


def prefect_server(layout: Layout) -> Service:
    """Prefect's API, UI and background services on SQLite."""
    port = _port(layout.prefect_url)
    extra = {
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # On disk: leases in memory are forgotten by a killed server, and the boards they hold would stay taken for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        # Who may start a run may run anything on this machine. By default every web page that is open here may.
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"{layout.prefect_url},http://localhost:{port}",
    }
    return Service(
        name="prefect",
        address=layout.prefect_url,
        daemon=_daemon(
            layout,
            "prefect",
            ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port],
            prefect_environment(layout, "prefect") | extra,
        ),
        answers=partial(probes.prefect_answers, layout.prefect_url),
        deadline_s=120,
    )


def tracking_server(layout: Layout) -> Service:
    """MLflow's server on SQLite and local files, set up by mlflow/server.toml."""
    configured = tomllib.loads((checkout() / "mlflow" / "server.toml").read_text(encoding="utf-8"))
    state = layout.home / "mlflow"
    options = {
        **configured["options"],
        "host": "127.0.0.1",
        "port": _port(layout.tracking_url),
        "backend-store-uri": f"sqlite:///{state / 'mlflow.db'}",
        "artifacts-destination": str(state / "artifacts"),
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return Service(
        name="mlflow",
        address=layout.tracking_url,
        daemon=_daemon(layout, "mlflow", ["-m", "mlflow", "server", *words], environment(configured["environment"])),
        answers=partial(probes.mlflow_answers, layout.tracking_url),
        deadline_s=120,
    )


def sigstore_instance(layout: Layout) -> Service:
    """Certificate authority, logs, timestamps and OIDC issuer for development."""
    words = ["-m", "vlab.sigstore_local", "--state", str(layout.home / "sigstore"), "--port", _port(layout.sigstore_url)]
    words += [word for client, identity in DEFAULT_CLIENTS.items() for word in ("--client", f"{client}={identity}")]
    return Service(
        name="sigstore",
        address=layout.sigstore_url,
        daemon=_daemon(layout, "sigstore", words, environment({})),
        answers=partial(probes.sigstore_answers, layout.sigstore_url),
        deadline_s=60,
    )


def chain(layout: Layout) -> Service:
    """The development chain, with play money for the lab's account."""
    words = ["-m", "vlab.devchain", "--state", str(layout.home / "chain"), "--port", _port(layout.chain_url)]
    if layout.key_file.exists():
        words += ["--fund", "0x" + json.loads(layout.key_file.read_bytes())["address"].removeprefix("0x")]
    if layout.anvil:
        words.append("--anvil")
    return Service(
        name="chain",
        address=layout.chain_url,
        daemon=_daemon(layout, "chain", words, environment({})),
        answers=partial(probes.chain_answers, layout.chain_url),
        deadline_s=60,
    )


def worker(layout: Layout, pool: str) -> Service:
    """The worker of one pool; a partner's knows only the partner's directory."""
    careful = ["--no-create-pool-if-not-found"]  # a pool the worker makes would lack the working directory
    daemon = _daemon(
        layout,
        f"worker-{pool}",
        ["-m", "prefect", "worker", "start", "--pool", pool, "--name", pool, "--type", "process", "--limit", "2", *careful],
        prefect_environment(layout, pool)
        | {
            "VLAB_HOME": str(layout.worker_home(pool)),
            "VLAB_PORT_BASE": str(layout.port_base),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        },
    )

    def answers() -> bool:
        try:
            since = daemon.record.stat().st_mtime
        except FileNotFoundError:
            return False
        return probes.worker_is_online(layout.prefect_url, pool, since)

    return Service(
        name=f"worker-{pool}", address=f"work pool {pool}", daemon=daemon, answers=answers, deadline_s=90, grace_s=20
    )


def servers(layout: Layout) -> list[Service]:
    """Prefect, MLflow, Sigstore instance, chain."""
    return [prefect_server(layout), tracking_server(layout), sigstore_instance(layout), chain(layout)]


def workers(layout: Layout) -> list[Service]:
    """One worker for each pool; started after the servers, stopped before them."""
    return [worker(layout, pool) for pool in POOLS]


def _daemon(layout: Layout, name: str, words: list[str], variables: Mapping[str, str]) -> Daemon:
    return Daemon(
        name=name,
        argv=(sys.executable, *words),
        environment=variables,
        directory=checkout() if name.startswith("worker") else layout.home,
        log=layout.home / "logs" / f"{name}.log",
        record=layout.home / "pids" / name,
    )


def _port(url: str) -> str:
    return str(urlsplit(url).port)
