"""The transparency log (Rekor API v2): hashedrekord 0.0.2 entries, signed checkpoints, tiles.

Sources: rekor-tiles CLIENTS.md, C2SP tlog-checkpoint and tlog-tiles, C2SP signed-note.
"""

import base64
import binascii
import re
import struct
from pathlib import Path
from typing import Any, Literal

import rfc8785
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from vlab.sigstore_local.certificates import key_id, load_key, now
from vlab.sigstore_local.state import Rejected
from vlab.sigstore_local.tree import Tree

TILE = 256
"""Hashes in a full tile (C2SP tlog-tiles)."""

_TILE_PATH = re.compile(r"^(entries|[0-9]|[1-5][0-9])/((?:x[0-9]{3}/){0,3}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?$")


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class _Certificate(_Message):
    raw_bytes: str


class _Verifier(_Message):
    x509_certificate: _Certificate
    key_details: Literal["PKIX_ECDSA_P256_SHA_256"]


class _Signature(_Message):
    content: str
    verifier: _Verifier


class _HashedRekord(_Message):
    digest: str
    signature: _Signature


class _CreateEntry(_Message):
    hashed_rekord_request_v002: _HashedRekord


class TransparencyLog:
    """Logs signatures made with certificates of this instance."""

    def __init__(self, state: Path, origin: str, intermediate: x509.Certificate) -> None:
        self.origin = origin
        self.key = load_key(state, "rekor", ec.SECP256R1())
        self._intermediate = intermediate
        self._tree = Tree(state / "rekor.db")

    def add(self, body: bytes) -> dict[str, Any]:
        """Log one signature and answer with its entry and inclusion proof.

        The logged body is built from parsed values, so nothing of the request but digest, signature and certificate is kept.

        Raises:
            Rejected: not such a request, a foreign or expired certificate, or a signature that does not hold (400).
        """
        try:
            request = _CreateEntry.model_validate_json(body).hashed_rekord_request_v002
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            raise Rejected(400, f"{'.'.join(map(str, first['loc'])) or 'request'}: {first['msg']}") from error
        digest = _bytes("digest", request.digest)
        signature = _bytes("signature.content", request.signature.content)
        certificate = self._certificate(_bytes("rawBytes", request.signature.verifier.x509_certificate.raw_bytes))
        _check_signature(certificate, digest, signature)
        return self._entry(_entry_body(certificate, digest, signature))

    def checkpoint(self, size: int | None = None) -> str:
        """The signed checkpoint of the first `size` leaves, by default of all."""
        size = self._tree.size if size is None else size
        note = f"{self.origin}\n{size}\n{_base64(self._tree.root(size))}\n"
        signature = self.key.sign(note.encode(), ec.ECDSA(hashes.SHA256()))
        return f"{note}\n\u2014 {self.origin} {_base64(key_id(self.key)[:4] + signature)}\n"

    def tile(self, path: str) -> bytes:
        """A tile or entry bundle: `<level>/<place>` or `entries/<place>`, `.p/<width>` appended for a partial one.

        Raises:
            Rejected: no such path, or not that many entries yet (404).
        """
        match = _TILE_PATH.match(path)
        if match is None:
            raise Rejected(404, f"no tile {path!r}; expected such as 0/000, entries/x001/234 or 0/000.p/7")
        kind, place, width = match.group(1), int(re.sub(r"[x/]", "", match.group(2))), int(match.group(3) or TILE)
        if kind == "entries":
            parts = [struct.pack("!H", len(body)) + body for body in self._tree.bodies(place * TILE, width)]
        else:
            parts = self._tree.hashes(8 * int(kind), place * TILE, width)
        if width > TILE or len(parts) < width:
            raise Rejected(404, f"tile {path!r} has {len(parts)} entries so far")
        return b"".join(parts)

    def close(self) -> None:
        """Close the tree."""
        self._tree.close()

    def _certificate(self, der: bytes) -> x509.Certificate:
        try:
            certificate = x509.load_der_x509_certificate(der)
            certificate.verify_directly_issued_by(self._intermediate)
        except Exception as error:  # parsers of foreign bytes raise many kinds
            raise Rejected(400, f"the certificate is not one of this instance: {error!r}") from error
        if not certificate.not_valid_before_utc <= now() <= certificate.not_valid_after_utc:
            raise Rejected(400, f"the certificate ended at {certificate.not_valid_after_utc}; ask for a new one")
        return certificate

    def _entry(self, body: bytes) -> dict[str, Any]:
        index = self._tree.append(body)
        size = self._tree.size
        return {
            "logIndex": str(index),
            "logId": {"keyId": _base64(key_id(self.key))},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "inclusionProof": {
                "logIndex": str(index),
                "rootHash": _base64(self._tree.root(size)),
                "treeSize": str(size),
                "hashes": [_base64(node) for node in self._tree.inclusion(index, size)],
                "checkpoint": {"envelope": self.checkpoint(size)},
            },
            "canonicalizedBody": _base64(body),
        }


def _check_signature(certificate: x509.Certificate, digest: bytes, signature: bytes) -> None:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Rejected(400, "the certificate's key is of another kind, expected ECDSA P-256")
    if len(digest) != 32:
        raise Rejected(400, f"digest has {len(digest)} bytes, expected 32 (SHA-256)")
    try:
        key.verify(signature, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except InvalidSignature as error:
        raise Rejected(400, "the signature does not hold for digest and certificate") from error


def _entry_body(certificate: x509.Certificate, digest: bytes, signature: bytes) -> bytes:
    """Canonical body of a hashedrekord 0.0.2 entry."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    verifier: dict[str, Any] = {"x509Certificate": {"rawBytes": _base64(der)}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
    spec: dict[str, Any] = {
        "data": {"algorithm": "SHA2_256", "digest": _base64(digest)},
        "signature": {"content": _base64(signature), "verifier": verifier},
    }
    return rfc8785.dumps({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": spec}})


def _bytes(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Rejected(400, f"{name}: not base64: {error}") from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
