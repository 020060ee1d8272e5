"""The timestamp authority (RFC 3161)."""

import secrets
from hashlib import sha256
from typing import ClassVar

from asn1crypto import cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vlab.sigstore_local.certificates import Authorities, now
from vlab.sigstore_local.state import Rejected

POLICY = "1.3.6.1.4.1.57264.2"
"""The policy Sigstore's own timestamp authority names."""

_DIGEST_BYTES = {"sha256": 32, "sha384": 48, "sha512": 64}


class TimestampAuthority:
    """Signs the time for a digest."""

    def __init__(self, authorities: Authorities) -> None:
        self._key = authorities.tsa_key
        der = authorities.tsa.public_bytes(serialization.Encoding.DER)
        self._certificate = asn1_x509.Certificate.load(der)
        self._signer = {
            "issuer_and_serial_number": {"issuer": self._certificate.issuer, "serial_number": authorities.tsa.serial_number}
        }
        self._certificate_attribute = {
            "type": "signing_certificate_v2",
            "values": [tsp.SigningCertificateV2({"certs": [{"cert_hash": sha256(der).digest()}]})],
        }

    def answer(self, request: bytes) -> bytes:
        """DER response to a DER request; what the authority does not do is answered as a rejection, as RFC 3161 wants.

        Raises:
            Rejected: the bytes are not a timestamp request (400).
        """
        try:
            query = tsp.TimeStampReq.load(request, strict=True)
            imprint, wanted = query["message_imprint"], query.native
            algorithm, digest = imprint["hash_algorithm"]["algorithm"].native, imprint["hashed_message"].native
        except Exception as error:  # the parser raises whatever foreign bytes lead it into
            raise Rejected(400, f"not an RFC 3161 timestamp request: {error}") from error
        if wanted["version"] != "v1":
            return _rejection("bad_request")
        if algorithm not in _DIGEST_BYTES:
            return _rejection("bad_alg")
        if len(digest) != _DIGEST_BYTES[algorithm]:
            return _rejection("bad_data_format")
        if wanted["req_policy"] not in {None, POLICY}:
            return _rejection("unaccepted_policy")
        if wanted["extensions"]:
            return _rejection("unaccepted_extension")
        info = {
            "version": "v1",
            "policy": POLICY,
            "message_imprint": imprint,
            "serial_number": int.from_bytes(secrets.token_bytes(15), "big"),
            "gen_time": now(),
            "accuracy": {"seconds": 1},
        }
        if wanted["nonce"] is not None:
            info["nonce"] = wanted["nonce"]
        token = {
            "content_type": "signed_data",
            "content": self._signed(tsp.TSTInfo(info).dump(), with_certificate=wanted["cert_req"]),
        }
        return bytes(tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": token}).dump())

    def _signed(self, info: bytes, *, with_certificate: bool) -> cms.SignedData:
        attributes = cms.CMSAttributes(
            [
                {"type": "content_type", "values": ["tst_info"]},
                {"type": "signing_time", "values": [cms.Time({"utc_time": now()})]},
                {"type": "message_digest", "values": [sha256(info).digest()]},
                self._certificate_attribute,
            ]
        )
        signer = {
            "version": "v1",
            "sid": self._signer,
            "digest_algorithm": {"algorithm": "sha256"},
            "signed_attrs": attributes,
            "signature_algorithm": {"algorithm": "sha256_ecdsa"},
            "signature": self._key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256())),
        }
        content = {
            "version": "v3",
            "digest_algorithms": [{"algorithm": "sha256"}],
            "encap_content_info": {"content_type": "tst_info", "content": core.ParsableOctetString(info)},
            "signer_infos": [signer],
        }
        if with_certificate:  # the leaf alone: clients refuse certificate sets that are not in DER order
            content["certificates"] = [self._certificate]
        return cms.SignedData(content)


class _Rejection(core.Sequence):  # type: ignore[misc]  # the library's own response cannot be without a token
    _fields: ClassVar = [("status", tsp.PKIStatusInfo)]


def _rejection(failure: str) -> bytes:
    return bytes(_Rejection({"status": {"status": "rejection", "fail_info": {failure}}}).dump())
