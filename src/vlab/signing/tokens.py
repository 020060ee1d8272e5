"""Identity tokens for machines; never interactive."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from vlab.errors import RefusedError
from vlab.signing.attempts import Attempt, translated

AUDIENCE: Final = "sigstore"


class TokenSource(Protocol):
    """Where identity tokens come from."""

    def token(self) -> str:
        """A fresh OIDC identity token with audience `sigstore`.

        Raises:
            ServiceDownError: the issuer does not answer.
            RefusedError: the issuer refuses.
        """


@dataclass(frozen=True)
class ClientCredentials:
    """Tokens for a machine by OAuth client credentials (RFC 6749 section 4.4).

    Raises:
        RefusedError: the secret would travel unencrypted to another machine.
    """

    token_url: str
    client_id: str
    secret_file: Path
    deadline_s: float = 15

    def __post_init__(self) -> None:
        url = urlsplit(self.token_url)
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in {"127.0.0.1", "localhost", "::1"}):
            raise RefusedError(f"token endpoint {self.token_url!r} would get the client's secret unencrypted; use https")

    def token(self) -> str:
        """A fresh token; the secret is read from its file each time.

        Raises:
            ServiceDownError: no answer in time.
            RefusedError: the secret's file is missing or readable by others, or the issuer refuses the client.
        """
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": _read_secret(self.secret_file),
            "audience": AUDIENCE,
        }

        def ask() -> str:
            import requests

            answer = requests.post(self.token_url, data=form, timeout=self.deadline_s, allow_redirects=False)
            answer.raise_for_status()
            return str(answer.json()["access_token"])

        try:
            return Attempt(ask).result(self.deadline_s)
        except Exception as error:
            raise translated(error, "the identity issuer", self.token_url) from error


@dataclass(frozen=True)
class TokenFile:
    """Tokens that the platform renews in a file: a projected Kubernetes service account token, a SPIFFE helper's JWT-SVID."""

    path: Path

    def token(self) -> str:
        """The token that is in the file now.

        Raises:
            RefusedError: the file is missing, empty or readable by others.
        """
        return _read_secret(self.path)


def _read_secret(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            secret = stream.read(16384).decode().strip()
    except (OSError, ValueError) as error:
        raise RefusedError(f"a secret cannot be read from {path}: {error}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise RefusedError(f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}); run: chmod 600 {path}")
    if not secret:
        raise RefusedError(f"{path} is empty, expected a secret")
    return secret
