"""A local Sigstore-compatible instance for development: issuer, certificate authority, logs and timestamps in one process.

Unmodified Sigstore clients talk to it over HTTP on loopback. It proves the code path and makes local records tamper-evident;
it does not give third-party trust, because one operator holds every key. Its operator name therefore starts with `embedded-`
and production verification refuses its trust configuration.

    python -m vlab.sigstore_local --state DIR --port 4202 [--client NAME=SPIFFE_ID ...]

prints one line, `ready http://127.0.0.1:4202`, when it answers, and leaves in DIR:

    trust.json                  the client trust configuration
    clients/<name>.secret       the secret of each OIDC client, mode 0600
    instance.json               id and port: both are fixed by the first start

The port is part of the issuer, which stands in every certificate, so a state directory refuses to start on another port.
The log's origin comes from the instance id and does not change. To move an instance, start a new state directory: bundles of
the old one keep verifying with the old trust.json, which is all that is needed for it.

Modules: `state` (files, lock), `certificates`, `issuer` (OIDC), `authority` (Fulcio v2 and certificate transparency), `log`
(Rekor v2), `tree` (durable RFC 6962 tree), `timestamps` (RFC 3161), `trust` (trust configuration), `server` (HTTP).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from vlab.errors import RefusedError
from vlab.records import Identity

OPERATOR: Final = "embedded-vlab"
"""Operator name in the trust configuration and in every certificate of the authorities."""

DEFAULT_CLIENTS: Final[Mapping[str, str]] = {
    "lab": "spiffe://vlab.local/lab",
    "partner-a": "spiffe://vlab.local/partner-a/worker",
    "partner-b": "spiffe://vlab.local/partner-b/worker",
}
"""OIDC clients and the SPIFFE ID each signs as."""


def identity_of(client: str, base_url: str, clients: Mapping[str, str] = DEFAULT_CLIENTS) -> Identity:
    """Who a client signs as, when the instance answers at `base_url` (no trailing slash).

    Raises:
        RefusedError: no such client.
    """
    if client not in clients:
        raise RefusedError(f"client {client!r} is unknown, expected one of: {', '.join(clients)}")
    return Identity(san=clients[client], issuer=base_url)


def token_url(base_url: str) -> str:
    """The token endpoint of the instance at `base_url`."""
    return f"{base_url}/token"


def trust_file(state: Path) -> Path:
    """Where the instance writes its client trust configuration."""
    return state / "trust.json"


def secret_file(state: Path, client: str) -> Path:
    """Where the instance writes the secret of a client."""
    return state / "clients" / f"{client}.secret"
