"""Keys and certificates of the instance: made at the first start, kept in the state directory."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vlab.errors import RefusedError
from vlab.sigstore_local import OPERATOR
from vlab.sigstore_local.state import write_atomically

LIFE = timedelta(days=3650)
"""Life of the authorities' certificates. They are not renewed: an instance that old is replaced."""

_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def now() -> datetime:
    """The current time to the second, as certificates and timestamps carry it."""
    return datetime.now(UTC).replace(microsecond=0)


def key_usage(*allowed: str) -> x509.KeyUsage:
    """A key usage extension that allows just these (RFC 5280 section 4.2.1.3)."""
    return x509.KeyUsage(**{usage: usage in allowed for usage in _USAGES})


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    """DER SubjectPublicKeyInfo of the public half."""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Log id: SHA-256 of the DER SubjectPublicKeyInfo (RFC 6962 section 3.2)."""
    return sha256(spki(key)).digest()


def load_key(state: Path, name: str, curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    """The key of that name, made on first use."""
    path = state / f"{name}.key.pem"
    if not path.exists():
        pem = ec.generate_private_key(curve).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_atomically(path, pem)
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != curve.name:
        raise RefusedError(f"{path} is not a {curve.name} key; restore it, or start with a new --state")
    return key


class Authorities:
    """The two chains of the instance: code signing (root, intermediate) and timestamping (root, leaf)."""

    def __init__(self, state: Path) -> None:
        self.root_key = load_key(state, "root", ec.SECP384R1())
        self.intermediate_key = load_key(state, "intermediate", ec.SECP384R1())
        self.tsa_root_key = load_key(state, "tsa-root", ec.SECP384R1())
        self.tsa_key = load_key(state, "tsa", ec.SECP256R1())
        self.root = _load(state, "root", self.root_key, None, _ca(None))
        self.intermediate = _load(
            state,
            "intermediate",
            self.intermediate_key,
            (self.root, self.root_key),
            [*_ca(0), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)],
        )
        self.tsa_root = _load(state, "tsa-root", self.tsa_root_key, None, _ca(None))
        self.tsa = _load(
            state,
            "tsa",
            self.tsa_key,
            (self.tsa_root, self.tsa_root_key),
            [
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (key_usage("digital_signature"), True),
                (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True),
            ],
        )


_Extensions = list[tuple[x509.ExtensionType, bool]]
_Issuer = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _ca(path_length: int | None) -> _Extensions:
    return [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (key_usage("key_cert_sign", "crl_sign"), True),
    ]


def _load(
    state: Path, name: str, key: ec.EllipticCurvePrivateKey, issuer: _Issuer | None, extensions: _Extensions
) -> x509.Certificate:
    path = state / f"{name}.crt.pem"
    if not path.exists():
        certificate = _make(name, key, issuer, extensions)
        write_atomically(path, certificate.public_bytes(serialization.Encoding.PEM))
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    if certificate.public_key() != key.public_key():
        raise RefusedError(f"{path} does not belong to {name}.key.pem; restore both, or start with a new --state")
    return certificate


def _make(name: str, key: ec.EllipticCurvePrivateKey, issuer: _Issuer | None, extensions: _Extensions) -> x509.Certificate:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, OPERATOR), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    issuer_name, issuer_key = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    start = now() - timedelta(minutes=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hashes.SHA384())
