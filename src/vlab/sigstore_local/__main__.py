"""Start the local Sigstore-compatible instance; see the package's docstring."""

import argparse
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from vlab.errors import RefusedError, VlabError
from vlab.sigstore_local import DEFAULT_CLIENTS
from vlab.sigstore_local.server import Services, application
from vlab.sigstore_local.state import lock, record_instance, recorded_instance


def listen(port: int) -> socket.socket:
    """A listening socket on loopback; there is no way to listen elsewhere.

    Raises:
        RefusedError: the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise RefusedError(f"port {port} cannot be used ({error}); stop what uses it, or choose another --port") from error
    listener.listen(128)
    return listener


def serve(state: Path, port: int, clients: dict[str, str]) -> None:
    """Run the instance until it is asked to stop.

    Raises:
        RefusedError: the state is in use, belongs to another port, or is damaged; or the port is taken.
    """
    os.umask(0o077)
    held = lock(state)
    instance = recorded_instance(state)
    if instance is not None and port not in {0, instance.port}:
        raise RefusedError(
            f"{state} belongs to port {instance.port}, got --port {port}; the port is part of the issuer in every certificate: "
            f"start it with --port {instance.port}, or with a new --state"
        )
    with listen(instance.port if instance else port) as listener:
        if instance is None:
            instance = record_instance(state, listener.getsockname()[1])
        ready = f"ready {instance.base_url}"
        app = application(Services(state, instance, clients), lambda: print(ready, flush=True))
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=5, limit_concurrency=256
        )
        uvicorn.Server(config).run(sockets=[listener])
    os.close(held)


def _client(text: str) -> tuple[str, str]:
    name, _, spiffe_id = text.partition("=")
    if not name or not spiffe_id:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SPIFFE_ID")
    return name, spiffe_id


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and serve; 0 after a requested stop, 1 if it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m vlab.sigstore_local", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="directory of keys, logs and the trust configuration")
    parser.add_argument(
        "--port", type=int, required=True, help="port on loopback; 0 keeps the state's port or takes a free one"
    )
    parser.add_argument(
        "--client",
        type=_client,
        action="append",
        metavar="NAME=SPIFFE_ID",
        help="an OIDC client and who it signs as; repeated; replaces the default clients",
    )
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        serve(options.state.absolute(), options.port, dict(options.client or DEFAULT_CLIENTS))
    except VlabError as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
