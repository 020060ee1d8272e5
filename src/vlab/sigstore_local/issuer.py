"""The OIDC issuer: known clients trade their secret for a short identity token (client_credentials, RFC 6749 section 4.4)."""

import hmac
import json
import os
import re
import secrets
import sqlite3
import stat
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from vlab.errors import RefusedError
from vlab.records import Name, Record, Sha256
from vlab.sigstore_local import secret_file
from vlab.sigstore_local.certificates import key_id, load_key
from vlab.sigstore_local.state import Rejected, write_atomically

AUDIENCE = "sigstore"
TOKEN_LIFE_S = 120
"""Long enough to ask for one certificate."""

_SPIFFE_ID = re.compile(r"^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$")


class Client(Record):
    """One OIDC client; the secret itself is only in its own file. It is random (256 bits), so one salted hash is enough."""

    spiffe_id: str
    salt: str
    secret_sha256: Sha256


class Clients(Record):
    """clients.json."""

    clients: dict[Name, Client]


class Issuer:
    """Issues identity tokens and checks them again when a certificate is asked for."""

    def __init__(self, state: Path, base_url: str, clients: Mapping[str, str]) -> None:
        self.base_url = base_url
        self._key = load_key(state, "oidc", ec.SECP256R1())
        self._key_id = key_id(self._key).hex()[:16]
        self._clients = _load_clients(state, clients)
        self._spent = sqlite3.connect(state / "tokens.db", isolation_level=None)
        self._spent.execute("pragma journal_mode = wal")
        self._spent.execute("pragma synchronous = full")
        self._spent.execute("create table if not exists spent (jti text primary key, expires integer not null)")

    def token(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Answer a token request.

        Raises:
            Rejected: another grant or audience (400), unknown client or wrong secret (401).
        """
        if form.get("grant_type") != "client_credentials":
            raise Rejected(400, f"grant_type is {form.get('grant_type')!r}, expected 'client_credentials'")
        if form.get("audience", AUDIENCE) != AUDIENCE:
            raise Rejected(400, f"audience is {form['audience']!r}, expected {AUDIENCE!r}")
        client = self._clients.get(form.get("client_id", ""))
        given = _hash(client.salt if client else "", form.get("client_secret", ""))
        if client is None or not hmac.compare_digest(given, client.secret_sha256):
            raise Rejected(401, "unknown client or wrong secret")
        issued = int(time.time())
        claims = {
            "iss": self.base_url,
            "sub": client.spiffe_id,
            "aud": AUDIENCE,
            "iat": issued,
            "nbf": issued,
            "exp": issued + TOKEN_LIFE_S,
            "jti": secrets.token_hex(16),
        }
        token = jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id})
        return {"access_token": token, "id_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE_S}

    def redeem(self, token: str) -> str:
        """The SPIFFE ID a token vouches for; a token is good for one certificate.

        Raises:
            Rejected: not a token of this issuer, expired, for a client that is no longer known, or used before (401).
        """
        try:
            claims = jwt.decode(
                token,
                self._key.public_key(),
                algorithms=["ES256"],
                audience=AUDIENCE,
                issuer=self.base_url,
                options={"require": ["aud", "sub", "iat", "nbf", "exp", "iss", "jti"]},
            )
        except jwt.PyJWTError as error:
            raise Rejected(401, f"identity token refused: {error}") from error
        subject = str(claims["sub"])
        if all(client.spiffe_id != subject for client in self._clients.values()):
            raise Rejected(401, f"identity token refused: {subject} is not a client any more")
        self._spent.execute("delete from spent where expires < ?", (int(time.time()) - TOKEN_LIFE_S,))
        try:
            self._spent.execute("insert into spent values (?, ?)", (str(claims["jti"]), int(claims["exp"])))
        except sqlite3.IntegrityError as error:
            raise Rejected(401, "identity token refused: it was used before; ask for a new one") from error
        return subject

    def discovery(self) -> dict[str, Any]:
        """The discovery document (OpenID Connect Discovery 1.0 section 3)."""
        return {
            "issuer": self.base_url,
            "jwks_uri": f"{self.base_url}/jwks",
            "token_endpoint": f"{self.base_url}/token",
            "authorization_endpoint": f"{self.base_url}/authorize",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def jwks(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set (RFC 7517)."""
        key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [key | {"kid": self._key_id, "use": "sig", "alg": "ES256"}]}

    def close(self) -> None:
        """Close the file of used tokens."""
        self._spent.close()


def _hash(salt: str, secret: str) -> str:
    return sha256(f"{salt}:{secret}".encode()).hexdigest()


def _load_clients(state: Path, wanted: Mapping[str, str]) -> dict[str, Client]:
    """The configured clients; a client that has no secret yet gets one. Others that clients.json knows stay unused."""
    for name, spiffe_id in wanted.items():
        if not _SPIFFE_ID.match(spiffe_id):
            raise RefusedError(f"client {name}: {spiffe_id!r} is not a SPIFFE ID such as spiffe://vlab.local/partner-a/worker")
    path = state / "clients.json"
    known = Clients.from_json(_read_private(path)).clients if path.exists() else {}
    chosen: dict[str, Client] = {}
    for name, spiffe_id in wanted.items():
        if name in known:
            chosen[name] = known[name].model_copy(update={"spiffe_id": spiffe_id})
            continue
        secret, salt = secrets.token_urlsafe(32), secrets.token_hex(16)
        chosen[name] = Client(spiffe_id=spiffe_id, salt=salt, secret_sha256=_hash(salt, secret))
        write_atomically(secret_file(state, name), secret.encode())
    everyone = Clients(clients=known | chosen)
    if everyone.clients != known:
        write_atomically(path, everyone.to_json())
    return chosen


def _read_private(path: Path) -> bytes:
    with path.open("rb") as stream:
        if stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & 0o077:
            raise RefusedError(f"{path} can be read by others; run: chmod 600 {path}")
        return stream.read()
