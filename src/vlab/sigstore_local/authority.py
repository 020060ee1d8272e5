"""The certificate authority (Fulcio API v2) with its certificate transparency log (RFC 6962)."""

import struct
import time
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from asn1crypto import core
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from vlab.sigstore_local.certificates import Authorities, key_id, key_usage, load_key, now, spki
from vlab.sigstore_local.issuer import Issuer
from vlab.sigstore_local.state import Rejected
from vlab.sigstore_local.tree import Tree

CERTIFICATE_LIFE = timedelta(minutes=10)

_FULCIO = "1.3.6.1.4.1.57264.1"
_ISSUER_V1 = x509.ObjectIdentifier(f"{_FULCIO}.1")  # raw bytes; some clients read only this one
_ISSUER_V2 = x509.ObjectIdentifier(f"{_FULCIO}.8")  # DER UTF8String
_SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")


class Authority:
    """Turns an identity token and a signing request into a ten-minute certificate."""

    def __init__(self, state: Path, authorities: Authorities, issuer: Issuer) -> None:
        self._issuer = issuer
        self._key = authorities.intermediate_key
        self.intermediate = authorities.intermediate
        self.chain = [_pem(authorities.intermediate), _pem(authorities.root)]
        """PEM, issuer of the leaf first."""
        self.ct_key = load_key(state, "ct", ec.SECP256R1())
        self._ct_log = Tree(state / "ct.db")

    def sign(self, request_pem: bytes, token: str) -> dict[str, Any]:
        """Certify the request's key for the identity of the token.

        Raises:
            Rejected: the request is not one, its signature or key type is wrong (400), the token is refused (401).
        """
        try:
            request = x509.load_pem_x509_csr(request_pem)
            public_key = request.public_key()
            possessed = request.is_signature_valid
        except Exception as error:  # parsers of foreign bytes raise many kinds
            raise Rejected(400, f"not a certificate signing request in PEM: {error}") from error
        if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP256R1):
            raise Rejected(400, "the signing request's key is of another kind, expected ECDSA P-256")
        if not possessed:
            raise Rejected(400, "the signing request is not signed by its own key")
        subject = self._issuer.redeem(token)
        builder = self._template(public_key, subject)
        precertificate = builder.sign(self._key, hashes.SHA384())
        stamp = self._log(precertificate.tbs_certificate_bytes)
        certificate = builder.add_extension(x509.UnrecognizedExtension(_SCT_LIST, stamp), critical=False).sign(
            self._key, hashes.SHA384()
        )
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": [_pem(certificate), *self.chain]}}}

    def trust_bundle(self) -> dict[str, Any]:
        """The certificate chain in the shape of Fulcio's trust bundle."""
        return {"chains": [{"certificates": self.chain}]}

    def close(self) -> None:
        """Close the certificate log."""
        self._ct_log.close()

    def _template(self, public_key: ec.EllipticCurvePublicKey, subject: str) -> x509.CertificateBuilder:
        issuer, start = self._issuer.base_url, now()
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.intermediate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + CERTIFICATE_LIFE)
            .add_extension(key_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(subject)]), critical=True)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_V1, issuer.encode()), critical=False)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_V2, core.UTF8String(issuer).dump()), critical=False)
        )

    def _log(self, tbs: bytes) -> bytes:
        """Log a precertificate and give its signed timestamp as an extension value (RFC 6962 sections 3.2 to 3.4).

        What is signed is byte for byte what is logged: version, leaf or signature type 0, milliseconds, entry type 1,
        hash of the issuer's key, and the certificate without the timestamp. The extension comes last in the certificate.
        """
        milliseconds = int(time.time() * 1000)
        entry = (
            struct.pack("!BBQH", 0, 0, milliseconds, 1)
            + sha256(spki(self._key)).digest()
            + len(tbs).to_bytes(3, "big")
            + tbs
            + b"\x00\x00"
        )
        self._ct_log.append(entry)
        signature = self.ct_key.sign(entry, ec.ECDSA(hashes.SHA256()))
        stamp = b"\x00" + key_id(self.ct_key) + struct.pack("!QH", milliseconds, 0) + b"\x04\x03" + _sized(signature)
        return bytes(core.OctetString(_sized(_sized(stamp))).dump())


def _sized(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
