"""Verify Sigstore bundles offline."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vlab.errors import EvidenceError, RefusedError
from vlab.provenance import PAYLOAD_TYPE
from vlab.records import Identity
from vlab.signing.trust import trusted_root

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.models import Bundle
    from sigstore.verify import Verifier

MAX_BUNDLE_BYTES: Final = 4 * 1024 * 1024


class BundleCode(StrEnum):
    """Why a bundle was refused."""

    BUNDLE_MALFORMED = "BUNDLE_MALFORMED"
    """Not a Sigstore bundle with one signed statement."""
    SIGNATURE = "SIGNATURE"
    """The signature does not hold for payload and certificate."""
    TIMESTAMP = "TIMESTAMP"
    """No timestamp of a trusted authority over this signature."""
    CERTIFICATE = "CERTIFICATE"
    """The certificate is not of the trusted authority, was not valid at that time, or is not in its log."""
    IDENTITY = "IDENTITY"
    """Signed by somebody else."""
    LOG = "LOG"
    """The transparency log's proof or checkpoint does not hold, or is for another signature."""
    PAYLOAD_TYPE = "PAYLOAD_TYPE"
    """What was signed is not an in-toto statement."""


class BundleError(EvidenceError):
    """A bundle does not verify."""

    def __init__(self, code: BundleCode, why: object) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code


def verify_bundle(bundle: bytes, trust_config: Path, identity: Identity) -> bytes:
    """Verify a bundle without network: signature, time, certificate, identity, log proof, payload type.

    Args:
        bundle: Sigstore bundle, JSON.
        trust_config: Sigstore client trust configuration, or a trusted root alone.
        identity: who must have signed; subject alternative name and issuer both.

    Returns:
        The exact payload that was signed.

    Raises:
        BundleError: the first check that fails, as `.code`.
        RefusedError: the trust configuration cannot be read.
    """
    from sigstore.errors import Error, VerificationError
    from sigstore.models import Bundle

    verifier = _verifier(trust_config)
    if len(bundle) > MAX_BUNDLE_BYTES:
        raise BundleError(BundleCode.BUNDLE_MALFORMED, f"{len(bundle)} bytes, expected at most {MAX_BUNDLE_BYTES}")
    try:
        parsed = Bundle.from_json(bundle)
        _check_signature(bundle, parsed)
        payload_type, payload = verifier.verify_dsse(parsed, _SignedBy(identity))
    except BundleError:
        raise
    except _WrongSignerError as error:
        raise BundleError(BundleCode.IDENTITY, error) from error
    except VerificationError as error:
        raise BundleError(_code(error), error) from error
    except Error as error:
        raise BundleError(BundleCode.BUNDLE_MALFORMED, error) from error
    except Exception as error:  # whatever parsers of foreign bytes raise is a refusal too
        raise BundleError(BundleCode.BUNDLE_MALFORMED, f"cannot be read: {error!r}") from error
    if payload_type != PAYLOAD_TYPE:
        raise BundleError(BundleCode.PAYLOAD_TYPE, f"signed as {payload_type!r}, expected {PAYLOAD_TYPE!r}")
    return payload


def _verifier(trust_config: Path) -> "Verifier":
    """A verifier whose trusted root has all four parts, so that what fails later is the bundle's fault."""
    from sigstore._internal.trust import KeyringPurpose
    from sigstore.errors import Error
    from sigstore.verify import Verifier

    root = trusted_root(trust_config)
    try:
        root.rekor_keyring(KeyringPurpose.VERIFY)
        root.ct_keyring(KeyringPurpose.VERIFY)
        root.get_timestamp_authorities()
        return Verifier(trusted_root=root)
    except (Error, ValueError) as error:
        raise RefusedError(f"the trusted root in {trust_config} is not complete: {error}") from error


class _WrongSignerError(Exception):
    """The certificate is for another identity."""


class _SignedBy:
    """Verification policy: exactly this name by exactly this issuer, in both forms that certificates carry it."""

    def __init__(self, identity: Identity) -> None:
        from sigstore.verify import policy

        self._policy = policy.AllOf(
            [policy.Identity(identity=identity.san, issuer=identity.issuer), policy.OIDCIssuerV2(identity.issuer)]
        )

    def verify(self, cert: "Certificate") -> None:
        from sigstore.errors import VerificationError

        try:
            self._policy.verify(cert)
        except VerificationError as error:
            raise _WrongSignerError(str(error)) from error


def _check_signature(raw: bytes, bundle: "Bundle") -> None:
    """Check the DSSE signature first, so that a changed byte is reported as such and not by what follows from it.

    Source: https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from sigstore_models.bundle.v1 import Bundle as BundleModel

    envelope = BundleModel.from_json(raw).dsse_envelope
    if envelope is None or len(envelope.signatures) != 1:
        raise BundleError(BundleCode.BUNDLE_MALFORMED, "expected a DSSE envelope with exactly one signature")
    kind = envelope.payload_type.encode()
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(envelope.payload), envelope.payload)
    key = bundle.signing_certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BundleError(BundleCode.SIGNATURE, f"the certificate's key is a {type(key).__name__}, expected ECDSA")
    try:
        key.verify(envelope.signatures[0].sig, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise BundleError(BundleCode.SIGNATURE, "the signature does not hold for payload and certificate") from error


_CODES: Final[tuple[tuple[str, BundleCode], ...]] = (
    ("not enough sources of verified time", BundleCode.TIMESTAMP),
    ("Invalid Timestamp Response", BundleCode.TIMESTAMP),
    ("too many signed timestamp", BundleCode.TIMESTAMP),
    ("duplicate timestamp", BundleCode.TIMESTAMP),
    ("no Timestamp Authorities", BundleCode.TIMESTAMP),
    ("Integrated time only", BundleCode.TIMESTAMP),
    ("invalid log entry", BundleCode.LOG),
    ("transparency log entry", BundleCode.LOG),
    ("log entry", BundleCode.LOG),
    ("Unsupported DSSE log entry", BundleCode.LOG),
    ("DSSE", BundleCode.SIGNATURE),
)
"""First words of sigstore's messages (its version is pinned, and tests hold each); the others are about the certificate."""


def _code(error: Exception) -> BundleCode:
    message = str(error)
    return next((code for words, code in _CODES if message.startswith(words)), BundleCode.CERTIFICATE)
