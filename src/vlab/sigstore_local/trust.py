"""The client trust configuration of the instance (Sigstore protobuf-specs, JSON)."""

import base64
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vlab.sigstore_local import OPERATOR
from vlab.sigstore_local.certificates import Authorities, key_id, spki

_MEDIA = "application/vnd.dev.sigstore"
TIMESTAMP_PATH = "/api/v1/timestamp"


def trust_configuration(
    base_url: str,
    origin: str,
    authorities: Authorities,
    *,
    ct_key: ec.EllipticCurvePrivateKey,
    log_key: ec.EllipticCurvePrivateKey,
) -> dict[str, Any]:
    """Everything a client needs to sign with the instance at `base_url` and to verify what it signed.

    The log's address ends in its origin: some verifiers look the name of the checkpoint's signer up in it.
    """
    valid = {"start": authorities.root.not_valid_before_utc.isoformat().replace("+00:00", "Z")}
    log_url, tsa_url = f"{base_url}/{origin}", f"{base_url}{TIMESTAMP_PATH}"

    def log(url: str, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
        return {
            "baseUrl": url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {"rawBytes": _base64(spki(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid},
            "logId": {"keyId": _base64(key_id(key))},
        }

    def authority(url: str, *chain: x509.Certificate) -> dict[str, Any]:
        certificates = [{"rawBytes": _base64(one.public_bytes(serialization.Encoding.DER))} for one in chain]
        return {
            "subject": {"organization": OPERATOR, "commonName": OPERATOR},
            "uri": url,
            "certChain": {"certificates": certificates},
            "validFor": valid,
        }

    def service(url: str, version: int) -> dict[str, Any]:
        return {"url": url, "majorApiVersion": version, "operator": OPERATOR, "validFor": valid}

    return {
        "mediaType": f"{_MEDIA}.clienttrustconfig.v0.1+json",
        "trustedRoot": {
            "mediaType": f"{_MEDIA}.trustedroot+json;version=0.1",
            "tlogs": [log(log_url, log_key)],
            "certificateAuthorities": [authority(base_url, authorities.intermediate, authorities.root)],
            "ctlogs": [log(f"{base_url}/ct", ct_key)],
            "timestampAuthorities": [authority(tsa_url, authorities.tsa, authorities.tsa_root)],
        },
        "signingConfig": {
            "mediaType": f"{_MEDIA}.signingconfig.v0.2+json",
            "caUrls": [service(base_url, 1)],
            "oidcUrls": [service(base_url, 1)],
            "rekorTlogUrls": [service(log_url, 2)],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": [service(tsa_url, 1)],
            "tsaConfig": {"selector": "ANY"},
        },
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
