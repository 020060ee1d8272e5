"""Signing and verifying with unmodified sigstore against the local instance: what holds, and every way in which it must not."""

import base64
import copy
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.conftest import SigstoreProcess
from vlab.errors import EvidenceError, RefusedError, ServiceDownError
from vlab.records import Identity
from vlab.signing import BundleError, ClientCredentials, Signer, TokenFile, trust_is_embedded, verify_bundle

STATEMENT = json.dumps(
    {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "result.json", "digest": {"sha256": "ab" * 32}}],
        "predicateType": "https://example.com/test/v1",
        "predicate": {"spaces  and order": "are kept", "a": "b"},
    }
).encode()


@pytest.fixture(scope="module")
def bundles(sigstore_local: SigstoreProcess) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two bundles of the lab over different statements and with different certificates, as JSON."""
    sigstore_local.signer().sign(STATEMENT)
    first = sigstore_local.signer().sign(STATEMENT)
    second = sigstore_local.signer().sign(STATEMENT.replace(b"are kept", b"stay"))
    return json.loads(first), json.loads(second)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SigstoreProcess]:
    """Another instance, with keys of its own."""
    instance = SigstoreProcess.start(tmp_path_factory.mktemp("foreign"))
    yield instance
    instance.stop()


def code_of(bundle: Any, trust: Path, identity: Identity) -> str:
    """The code a bundle is refused with."""
    raw = bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode()
    with pytest.raises(BundleError) as refused:
        verify_bundle(raw, trust, identity)
    return refused.value.code


# ---------------------------------------------------------------- what holds


@pytest.mark.parametrize("client", ["lab", "partner-a", "partner-b"])
def test_what_is_signed_verifies_and_comes_back_byte_for_byte(sigstore_local: SigstoreProcess, client: str) -> None:
    """Every client signs as itself, and verifying gives the exact bytes that went in."""
    bundle = sigstore_local.signer(client).sign(STATEMENT)

    assert STATEMENT == verify_bundle(bundle, sigstore_local.trust, sigstore_local.identity(client))


def test_unmodified_sigstore_verifies_the_bundle(sigstore_local: SigstoreProcess) -> None:
    """The bundle is an ordinary one: sigstore's own verifier accepts it with the instance's trust configuration."""
    from sigstore.models import Bundle, ClientTrustConfig
    from sigstore.verify import Verifier, policy

    bundle = sigstore_local.signer().sign(STATEMENT)
    config = ClientTrustConfig.from_json(sigstore_local.trust.read_text())
    identity = sigstore_local.identity("lab")
    kind, payload = Verifier(trusted_root=config.trusted_root).verify_dsse(
        Bundle.from_json(bundle), policy.Identity(identity=identity.san, issuer=identity.issuer)
    )

    assert ("application/vnd.in-toto+json", STATEMENT) == (kind, payload)


def test_trusted_root_alone_is_enough_to_verify(sigstore_local: SigstoreProcess, tmp_path: Path) -> None:
    """A verifier needs only the trusted root, not where to sign."""
    root = tmp_path / "trusted_root.json"
    root.write_text(json.dumps(json.loads(sigstore_local.trust.read_text())["trustedRoot"]))
    bundle = sigstore_local.signer().sign(STATEMENT)

    assert STATEMENT == verify_bundle(bundle, root, sigstore_local.identity("lab"))
    assert trust_is_embedded(root)


def test_verifying_uses_no_network(sigstore_local: SigstoreProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle verifies where no socket can be opened."""
    bundle = sigstore_local.signer().sign(STATEMENT)

    def refuse(*_: object) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    assert STATEMENT == verify_bundle(bundle, sigstore_local.trust, sigstore_local.identity("lab"))


def test_one_signer_serves_many_threads(sigstore_local: SigstoreProcess) -> None:
    """Signatures of one signer from several threads at once all verify and are logged at different places."""
    signer, found = sigstore_local.signer(), []
    threads = [threading.Thread(target=lambda: found.append(json.loads(signer.sign(STATEMENT)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 8 == len({bundle["verificationMaterial"]["tlogEntries"][0]["logIndex"] for bundle in found})


def test_certificate_is_used_again_and_renewed_before_it_ends(
    sigstore_local: SigstoreProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signatures share a certificate for eight minutes; then the signer asks for another."""
    signer, now = sigstore_local.signer(), time.time

    def certificate() -> str:
        bundle = json.loads(signer.sign(STATEMENT))
        return str(bundle["verificationMaterial"]["certificate"]["rawBytes"])

    first, again = certificate(), certificate()
    monkeypatch.setattr("vlab.signing.signer.time.time", lambda: now() + 481)
    later = certificate()

    assert first == again
    assert first != later


# ---------------------------------------------------------------- what must not hold


def test_another_signer_is_refused(sigstore_local: SigstoreProcess) -> None:
    """A valid signature of a partner is not one of the lab."""
    bundle = sigstore_local.signer("partner-a").sign(STATEMENT)

    assert "IDENTITY" == code_of(bundle, sigstore_local.trust, sigstore_local.identity("lab"))


def test_another_issuer_is_refused(sigstore_local: SigstoreProcess) -> None:
    """The same name from another issuer is somebody else."""
    identity = sigstore_local.identity("lab").model_copy(update={"issuer": "http://127.0.0.1:1"})
    bundle = sigstore_local.signer().sign(STATEMENT)

    assert "IDENTITY" == code_of(bundle, sigstore_local.trust, identity)


def entry(bundle: dict[str, Any]) -> dict[str, Any]:
    """The bundle's log entry."""
    return bundle["verificationMaterial"]["tlogEntries"][0]  # type: ignore[no-any-return]


def flip(text: str, position: int = 40) -> str:
    """Base64 with one bit of the decoded bytes changed."""
    data = bytearray(base64.b64decode(text))
    data[min(position, len(data) - 1)] ^= 1
    return base64.b64encode(data).decode()


def _change_payload(one: dict[str, Any], _: dict[str, Any]) -> None:
    one["dsseEnvelope"]["payload"] = flip(one["dsseEnvelope"]["payload"])


def _change_payload_type(one: dict[str, Any], _: dict[str, Any]) -> None:
    one["dsseEnvelope"]["payloadType"] = "text/plain"


def _change_signature(one: dict[str, Any], _: dict[str, Any]) -> None:
    one["dsseEnvelope"]["signatures"][0]["sig"] = flip(one["dsseEnvelope"]["signatures"][0]["sig"])


def _take_signature(one: dict[str, Any], other: dict[str, Any]) -> None:
    one["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"]


def _drop_signature(one: dict[str, Any], _: dict[str, Any]) -> None:
    one["dsseEnvelope"]["signatures"] = []


def _sign_twice(one: dict[str, Any], other: dict[str, Any]) -> None:
    one["dsseEnvelope"]["signatures"] += other["dsseEnvelope"]["signatures"]


def _take_certificate(one: dict[str, Any], other: dict[str, Any]) -> None:
    one["verificationMaterial"]["certificate"] = other["verificationMaterial"]["certificate"]


def _drop_certificate(one: dict[str, Any], _: dict[str, Any]) -> None:
    del one["verificationMaterial"]["certificate"]


def _take_timestamp(one: dict[str, Any], other: dict[str, Any]) -> None:
    one["verificationMaterial"]["timestampVerificationData"] = other["verificationMaterial"]["timestampVerificationData"]


def _change_timestamp(one: dict[str, Any], _: dict[str, Any]) -> None:
    stamp = one["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0]
    stamp["signedTimestamp"] = flip(stamp["signedTimestamp"], 10_000)


def _spoil_timestamp(one: dict[str, Any], _: dict[str, Any]) -> None:
    stamp = one["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0]
    stamp["signedTimestamp"] = "AAAA"


def _double_timestamp(one: dict[str, Any], _: dict[str, Any]) -> None:
    one["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"] *= 2


def _drop_timestamp(one: dict[str, Any], _: dict[str, Any]) -> None:
    one["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"] = []


def _take_entry(one: dict[str, Any], other: dict[str, Any]) -> None:
    one["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]


def _double_entry(one: dict[str, Any], _: dict[str, Any]) -> None:
    one["verificationMaterial"]["tlogEntries"] *= 2


def _drop_entry(one: dict[str, Any], _: dict[str, Any]) -> None:
    one["verificationMaterial"]["tlogEntries"] = []


def _change_log_body(one: dict[str, Any], _: dict[str, Any]) -> None:
    entry(one)["canonicalizedBody"] = flip(entry(one)["canonicalizedBody"])


def _change_proof(one: dict[str, Any], _: dict[str, Any]) -> None:
    entry(one)["inclusionProof"]["hashes"][0] = flip(entry(one)["inclusionProof"]["hashes"][0], 3)


def _shorten_proof(one: dict[str, Any], _: dict[str, Any]) -> None:
    entry(one)["inclusionProof"]["hashes"].pop()


def _change_root(one: dict[str, Any], _: dict[str, Any]) -> None:
    entry(one)["inclusionProof"]["rootHash"] = flip(entry(one)["inclusionProof"]["rootHash"], 3)


def _change_index(one: dict[str, Any], _: dict[str, Any]) -> None:
    entry(one)["inclusionProof"]["logIndex"] = "0"


def _index_past_the_end(one: dict[str, Any], _: dict[str, Any]) -> None:
    entry(one)["inclusionProof"]["logIndex"] = entry(one)["inclusionProof"]["treeSize"]


def _change_checkpoint_size(one: dict[str, Any], _: dict[str, Any]) -> None:
    point = entry(one)["inclusionProof"]["checkpoint"]
    origin, size, rest = point["envelope"].split("\n", 2)
    point["envelope"] = "\n".join([origin, str(int(size) + 1), rest])


def _change_checkpoint_signature(one: dict[str, Any], _: dict[str, Any]) -> None:
    point = entry(one)["inclusionProof"]["checkpoint"]
    head, signature = point["envelope"].rstrip("\n").rsplit(" ", 1)
    point["envelope"] = f"{head} {flip(signature)}\n"


def _take_checkpoint(one: dict[str, Any], other: dict[str, Any]) -> None:
    entry(one)["inclusionProof"]["checkpoint"] = entry(other)["inclusionProof"]["checkpoint"]


def _drop_checkpoint(one: dict[str, Any], _: dict[str, Any]) -> None:
    del entry(one)["inclusionProof"]["checkpoint"]


def _change_log_id(one: dict[str, Any], _: dict[str, Any]) -> None:
    entry(one)["logId"]["keyId"] = flip(entry(one)["logId"]["keyId"], 0)


def _change_kind(one: dict[str, Any], _: dict[str, Any]) -> None:
    entry(one)["kindVersion"]["kind"] = "dsse"


def _change_media_type(one: dict[str, Any], _: dict[str, Any]) -> None:
    one["mediaType"] = "application/json"


def _add_field(one: dict[str, Any], _: dict[str, Any]) -> None:
    one["more"] = 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_change_payload, "SIGNATURE"),
        (_change_payload_type, "SIGNATURE"),
        (_change_signature, "SIGNATURE"),
        (_take_signature, "SIGNATURE"),
        (_drop_signature, "BUNDLE_MALFORMED"),
        (_sign_twice, "BUNDLE_MALFORMED"),
        (_take_certificate, "SIGNATURE"),
        (_drop_certificate, "BUNDLE_MALFORMED"),
        (_take_timestamp, "TIMESTAMP"),
        (_change_timestamp, "TIMESTAMP"),
        (_spoil_timestamp, "TIMESTAMP"),
        (_double_timestamp, "TIMESTAMP"),
        (_drop_timestamp, "BUNDLE_MALFORMED"),
        (_take_entry, "LOG"),
        (_double_entry, "BUNDLE_MALFORMED"),
        (_drop_entry, "BUNDLE_MALFORMED"),
        (_change_log_body, "LOG"),
        (_change_proof, "LOG"),
        (_shorten_proof, "LOG"),
        (_change_root, "LOG"),
        (_change_index, "LOG"),
        (_index_past_the_end, "BUNDLE_MALFORMED"),
        (_change_checkpoint_size, "LOG"),
        (_change_checkpoint_signature, "LOG"),
        (_take_checkpoint, "LOG"),
        (_drop_checkpoint, "BUNDLE_MALFORMED"),
        (_change_log_id, "LOG"),
        (_change_kind, "LOG"),
        (_change_media_type, "BUNDLE_MALFORMED"),
        (_add_field, "BUNDLE_MALFORMED"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)).lstrip("_"),
)
def test_one_change_is_enough_to_be_refused(
    sigstore_local: SigstoreProcess,
    bundles: tuple[dict[str, Any], dict[str, Any]],
    change: Callable[[dict[str, Any], dict[str, Any]], None],
    code: str,
) -> None:
    """A bundle with one part changed, dropped, doubled or taken from another bundle is refused, with the part's code."""
    one, other = copy.deepcopy(bundles)
    change(one, other)

    assert code == code_of(one, sigstore_local.trust, sigstore_local.identity("lab"))


@pytest.mark.parametrize("raw", [b"", b"{}", b"null", b"[]", b"\xff", b"[" * 100_000, b"{" + b" " * 5_000_000 + b"}"])
def test_what_is_no_bundle_is_refused(sigstore_local: SigstoreProcess, raw: bytes) -> None:
    """Any other bytes are malformed, also very deep and very long ones."""
    assert "BUNDLE_MALFORMED" == code_of(raw, sigstore_local.trust, sigstore_local.identity("lab"))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_changes_never_change_what_is_signed(
    sigstore_local: SigstoreProcess, bundles: tuple[dict[str, Any], dict[str, Any]], data: st.DataObject
) -> None:
    """A bundle with any byte replaced is refused by code, or still gives the very bytes that were signed."""
    raw = bytearray(json.dumps(bundles[0]).encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))

    try:
        payload = verify_bundle(bytes(raw), sigstore_local.trust, sigstore_local.identity("lab"))
    except BundleError:
        return
    assert STATEMENT == payload


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (None, "TIMESTAMP"),
        ("timestampAuthorities", "TIMESTAMP"),
        ("certificateAuthorities", "CERTIFICATE"),
        ("ctlogs", "CERTIFICATE"),
        ("tlogs", "LOG"),
    ],
)
def test_foreign_trust_root_is_refused(
    sigstore_local: SigstoreProcess, foreign: SigstoreProcess, tmp_path: Path, part: str | None, code: str
) -> None:
    """Nothing verifies with another instance's keys, not even if only one of the four parts is foreign."""
    trust, other = json.loads(sigstore_local.trust.read_text()), json.loads(foreign.trust.read_text())
    if part is None:
        trust = other
    else:
        trust["trustedRoot"][part] = other["trustedRoot"][part]
    mixed = tmp_path / "trust.json"
    mixed.write_text(json.dumps(trust))

    bundle = sigstore_local.signer().sign(STATEMENT)

    assert code == code_of(bundle, mixed, sigstore_local.identity("lab"))


@pytest.mark.parametrize(("shift", "code"), [(timedelta(hours=1), "CERTIFICATE"), (timedelta(hours=-1), "TIMESTAMP")])
def test_signature_outside_the_certificates_life_is_refused(
    sigstore_local: SigstoreProcess,
    bundles: tuple[dict[str, Any], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    shift: timedelta,
    code: str,
) -> None:
    """A genuine timestamp after the certificate's ten minutes, or from before there was an authority, is of no use."""
    from rfc3161_client import TimestampRequestBuilder

    from vlab.sigstore_local import timestamps
    from vlab.sigstore_local.certificates import Authorities

    monkeypatch.setattr(timestamps, "now", lambda: datetime.now(UTC).replace(microsecond=0) + shift)
    one = copy.deepcopy(bundles[0])
    signature = base64.b64decode(one["dsseEnvelope"]["signatures"][0]["sig"])
    query = TimestampRequestBuilder().data(signature).build().as_bytes()
    answer = timestamps.TimestampAuthority(Authorities(sigstore_local.state)).answer(query)
    stamp = one["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0]
    stamp["signedTimestamp"] = base64.b64encode(answer).decode()

    assert code == code_of(one, sigstore_local.trust, sigstore_local.identity("lab"))


def test_what_is_signed_under_another_payload_type_is_refused(sigstore_local: SigstoreProcess) -> None:
    """A good signature over something that does not call itself an in-toto statement is not a statement."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from sigstore import dsse
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken
    from sigstore.sign import SigningContext
    from sigstore_models.intoto import Envelope, Signature

    context = SigningContext.from_trust_config(ClientTrustConfig.from_json(sigstore_local.trust.read_text()))
    with context.signer(IdentityToken(sigstore_local.tokens("lab").token())) as signer:
        certificate = signer._signing_cert()
        signature = signer._private_key.sign(dsse._pae("text/plain", STATEMENT), ec.ECDSA(hashes.SHA256()))
        envelope = dsse.Envelope(
            Envelope(
                payload=base64.b64encode(STATEMENT),
                payload_type="text/plain",
                signatures=[Signature(sig=base64.b64encode(signature))],
            )
        )
        proposed = context._rekor._build_dsse_request(envelope=envelope, certificate=certificate)
        bundle = signer._finalize_sign(certificate, envelope, proposed).to_json().encode()

    assert "PAYLOAD_TYPE" == code_of(bundle, sigstore_local.trust, sigstore_local.identity("lab"))


def test_signed_file_is_not_a_statement(sigstore_local: SigstoreProcess) -> None:
    """The bundle of a signed file, which has no envelope, is not taken for a statement."""
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken
    from sigstore.sign import SigningContext

    context = SigningContext.from_trust_config(ClientTrustConfig.from_json(sigstore_local.trust.read_text()))
    with context.signer(IdentityToken(sigstore_local.tokens("lab").token())) as signer:
        bundle = signer.sign_artifact(STATEMENT).to_json().encode()

    assert "BUNDLE_MALFORMED" == code_of(bundle, sigstore_local.trust, sigstore_local.identity("lab"))


# ---------------------------------------------------------------- trust configurations


def test_embedded_trust_is_told_even_when_renamed(sigstore_local: SigstoreProcess, tmp_path: Path) -> None:
    """Renaming the operator in the file does not hide it: the certificates say it too."""
    renamed = tmp_path / "trust.json"
    renamed.write_text(sigstore_local.trust.read_text().replace("embedded-vlab", "example"))

    assert trust_is_embedded(sigstore_local.trust)
    assert trust_is_embedded(renamed)


def test_the_public_instance_is_not_embedded(tmp_path: Path) -> None:
    """The trusted root of the public instance, as it ships with sigstore, is not taken for a development one."""
    from importlib.resources import files

    path = tmp_path / "trusted_root.json"
    stores = files("sigstore") / "_store"
    (found,) = [item for item in stores.iterdir() if "sigstore.dev" in item.name and "sigstage" not in item.name]
    path.write_bytes((found / "trusted_root.json").read_bytes())

    assert not trust_is_embedded(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mediaType": "x"}', '{"trustedRoot": {}}'])
def test_what_is_no_trust_configuration_is_refused(sigstore_local: SigstoreProcess, tmp_path: Path, text: str) -> None:
    """A wrong trust file is an error about that file, not about the bundle."""
    wrong = tmp_path / "trust.json"
    wrong.write_text(text)

    with pytest.raises(RefusedError, match=r"trust\.json") as refused:
        verify_bundle(b"{}", wrong, sigstore_local.identity("lab"))
    assert not isinstance(refused.value, BundleError)


@pytest.mark.parametrize("part", ["timestampAuthorities", "certificateAuthorities", "ctlogs", "tlogs"])
def test_incomplete_trust_root_verifies_nothing(sigstore_local: SigstoreProcess, tmp_path: Path, part: str) -> None:
    """With one of its four parts empty, a trusted root accepts no bundle."""
    trust = json.loads(sigstore_local.trust.read_text())
    trust["trustedRoot"][part] = []
    wrong = tmp_path / "trust.json"
    wrong.write_text(json.dumps(trust))
    bundle = sigstore_local.signer().sign(STATEMENT)

    with pytest.raises(RefusedError):
        verify_bundle(bundle, wrong, sigstore_local.identity("lab"))


def test_missing_trust_configuration_is_refused(sigstore_local: SigstoreProcess, tmp_path: Path) -> None:
    """A trust file that is not there is an error that names it."""
    with pytest.raises(RefusedError, match=r"absent\.json"):
        verify_bundle(b"{}", tmp_path / "absent.json", sigstore_local.identity("lab"))


# ---------------------------------------------------------------- services that fail


class Front:
    """Stands before the instance and answers some requests in its place."""

    def __init__(self, instance: SigstoreProcess, fault: Callable[[str, int], int | None]) -> None:
        """`fault(path, n)` is the status to answer the n-th request (from 0) of that path with; 0 is silence, None forwards."""
        self.instance, self.seen = instance, []
        released = self.released = threading.Event()
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = fault(self.path, seen.count(self.path))
                seen.append(self.path)
                if status == 0:
                    released.wait(30)
                    return
                if status is None:
                    upstream = http.client.HTTPConnection(instance.base_url.removeprefix("http://"), timeout=10)
                    upstream.request("POST", self.path, body, {k: v for k, v in self.headers.items() if k.lower() != "host"})
                    answer = upstream.getresponse()
                    status, body = answer.status, answer.read()
                    upstream.close()
                else:
                    body = json.dumps({"code": status, "message": "no, for a test"}).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self.server.server_port}"

    def signer(self, directory: Path, *, deadline_s: float = 20) -> Signer:
        """A signer of the lab that goes through this front."""
        config = json.loads(self.instance.trust.read_text())
        text = json.dumps(config["signingConfig"]).replace(self.instance.base_url, self.base_url)
        trust = directory / "trust.json"
        trust.write_text(json.dumps(config | {"signingConfig": json.loads(text)}))
        tokens = ClientCredentials(f"{self.base_url}/token", "lab", self.instance.tokens("lab").secret_file)
        return Signer(trust, tokens, self.instance.identity("lab"), deadline_s=deadline_s)

    def count(self, end: str) -> int:
        """How often paths with that end were asked for."""
        return sum(path.endswith(end) for path in self.seen)


@contextmanager
def front(instance: SigstoreProcess, fault: Callable[[str, int], int | None]) -> Iterator[Front]:
    """A front that is served."""
    standing = Front(instance, fault)
    thread = threading.Thread(target=standing.server.serve_forever)
    thread.start()
    try:
        yield standing
    finally:
        standing.released.set()
        standing.server.shutdown()
        standing.server.server_close()
        thread.join()


@pytest.mark.parametrize("end", ["/token", "/signingCert", "/timestamp"])
def test_failure_before_the_log_write_is_tried_again(sigstore_local: SigstoreProcess, tmp_path: Path, end: str) -> None:
    """Issuer, authority or timestamps failing once costs a retry; the log gets one entry all the same."""
    before = sigstore_local.log_head()[0]

    with front(sigstore_local, lambda path, n: 503 if path.endswith(end) and n == 0 else None) as standing:
        bundle = standing.signer(tmp_path).sign(STATEMENT)

    assert STATEMENT == verify_bundle(bundle, sigstore_local.trust, sigstore_local.identity("lab"))
    assert before + 1 == sigstore_local.log_head()[0]


def test_no_timestamp_no_log_entry(sigstore_local: SigstoreProcess, tmp_path: Path) -> None:
    """When no timestamp can be had, signing fails before the log is asked to write."""
    with (
        front(sigstore_local, lambda path, _: 503 if path.endswith("/timestamp") else None) as standing,
        pytest.raises(ServiceDownError, match="timestamp authority"),
    ):
        standing.signer(tmp_path, deadline_s=3).sign(STATEMENT)

    assert 0 == standing.count("/log/entries")


def test_log_write_is_never_repeated(sigstore_local: SigstoreProcess, tmp_path: Path) -> None:
    """A log that fails on writing is asked once: an entry may exist."""
    with (
        front(sigstore_local, lambda path, _: 503 if path.endswith("/entries") else None) as standing,
        pytest.raises(ServiceDownError, match="no, for a test"),
    ):
        standing.signer(tmp_path).sign(STATEMENT)

    assert 1 == standing.count("/log/entries")


@pytest.mark.parametrize("end", ["/token", "/signingCert", "/entries"])
def test_refusal_is_final_and_quoted(sigstore_local: SigstoreProcess, tmp_path: Path, end: str) -> None:
    """A refusal is not tried again, and the error has the service's words."""
    with (
        front(sigstore_local, lambda path, _: 403 if path.endswith(end) else None) as standing,
        pytest.raises(RefusedError, match="no, for a test"),
    ):
        standing.signer(tmp_path).sign(STATEMENT)

    assert 1 == standing.count(end)


@pytest.mark.parametrize("end", ["/token", "/signingCert", "/timestamp", "/entries"])
def test_silent_service_cannot_hold_us(sigstore_local: SigstoreProcess, tmp_path: Path, end: str) -> None:
    """A service that takes the request and never answers costs no more than the deadline, and the log gets nothing late."""
    with front(sigstore_local, lambda path, _: 0 if path.endswith(end) else None) as standing:
        signer = standing.signer(tmp_path, deadline_s=1)
        started = time.monotonic()
        with pytest.raises(ServiceDownError, match="no answer"):
            signer.sign(STATEMENT)
        took = time.monotonic() - started
        writes = standing.count("/entries")
        standing.released.set()
        time.sleep(0.2)

        assert took < 2
        assert writes == standing.count("/entries")


def test_stopped_service_is_down(tmp_path: Path) -> None:
    """When nothing listens, signing fails with the error that means: start it and try again."""
    instance = SigstoreProcess.start(tmp_path / "state")
    signer = instance.signer(deadline_s=2)
    instance.stop()

    with pytest.raises(ServiceDownError, match="vlab up"):
        signer.sign(STATEMENT)


def test_bundle_that_does_not_verify_is_not_handed_out(
    sigstore_local: SigstoreProcess, foreign: SigstoreProcess, tmp_path: Path
) -> None:
    """Sigstore itself checks no log proof when it signs; the signer does, and refuses an unknown log's answer."""
    trust = json.loads(sigstore_local.trust.read_text())
    trust["trustedRoot"]["tlogs"] = json.loads(foreign.trust.read_text())["trustedRoot"]["tlogs"]
    (tmp_path / "trust.json").write_text(json.dumps(trust))
    signer = Signer(tmp_path / "trust.json", sigstore_local.tokens("lab"), sigstore_local.identity("lab"))

    with pytest.raises(BundleError) as refused:
        signer.sign(STATEMENT)
    assert "LOG" == refused.value.code


def test_signer_with_anothers_tokens_is_refused(sigstore_local: SigstoreProcess) -> None:
    """A signer set up for one identity with the credentials of another finds out at once."""
    signer = Signer(sigstore_local.trust, sigstore_local.tokens("partner-a"), sigstore_local.identity("lab"))

    with pytest.raises(BundleError) as refused:
        signer.sign(STATEMENT)
    assert "IDENTITY" == refused.value.code


@pytest.mark.parametrize("statement", [b"", b"{}", STATEMENT.replace(b"sha256", b"sha1")])
def test_only_statements_are_signed(sigstore_local: SigstoreProcess, statement: bytes) -> None:
    """Anything but an in-toto statement is refused before a service is asked."""
    with pytest.raises(EvidenceError, match="not an in-toto statement"):
        sigstore_local.signer().sign(statement)


def test_trusted_root_alone_cannot_sign(sigstore_local: SigstoreProcess, tmp_path: Path) -> None:
    """Signing needs to know where; a trusted root does not say it."""
    root = tmp_path / "trusted_root.json"
    root.write_text(json.dumps(json.loads(sigstore_local.trust.read_text())["trustedRoot"]))
    signer = Signer(root, sigstore_local.tokens("lab"), sigstore_local.identity("lab"))

    with pytest.raises(RefusedError, match="client trust configuration"):
        signer.sign(STATEMENT)


# ---------------------------------------------------------------- client credentials


def test_wrong_secret_is_refused(sigstore_local: SigstoreProcess, tmp_path: Path) -> None:
    """The issuer's refusal reaches the caller, and the secret is not in it."""
    secret = tmp_path / "secret"
    secret.write_text("a-wrong-secret")
    secret.chmod(0o600)
    tokens = ClientCredentials(f"{sigstore_local.base_url}/token", "lab", secret)

    with pytest.raises(RefusedError, match="unknown client or wrong secret") as refused:
        tokens.token()
    assert "a-wrong-secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("mode", "text", "message"), [(0o644, "x", "chmod 600"), (0o640, "x", "chmod 600"), (0o600, "\n", "empty")]
)
def test_secret_file_has_to_be_private_and_filled(tmp_path: Path, mode: int, text: str, message: str) -> None:
    """A secret others can read is refused with the command that mends it; so is an empty file."""
    secret = tmp_path / "secret"
    secret.write_text(text)
    secret.chmod(mode)

    with pytest.raises(RefusedError, match=message):
        ClientCredentials("https://issuer.example/token", "lab", secret).token()


def test_missing_secret_is_refused(tmp_path: Path) -> None:
    """A secret that is not there is an error that names the file."""
    with pytest.raises(RefusedError, match=r"lab\.secret"):
        ClientCredentials("https://issuer.example/token", "lab", tmp_path / "lab.secret").token()


@pytest.mark.parametrize("url", ["http://issuer.example/token", "http://127.0.0.1.example/token", "ftp://127.0.0.1/", ""])
def test_secret_does_not_travel_unencrypted(tmp_path: Path, url: str) -> None:
    """Only https, or http to this very machine, gets the secret."""
    with pytest.raises(RefusedError, match="unencrypted"):
        ClientCredentials(url, "lab", tmp_path / "secret")


def test_token_file_is_read_each_time(sigstore_local: SigstoreProcess, tmp_path: Path) -> None:
    """A token that the platform renews in a file is taken as it is now, and signs."""
    path = tmp_path / "token"
    path.write_text("old")
    path.chmod(0o600)
    source = TokenFile(path)
    path.write_text(sigstore_local.tokens("lab").token())
    signer = Signer(sigstore_local.trust, source, sigstore_local.identity("lab"))

    assert STATEMENT == verify_bundle(signer.sign(STATEMENT), sigstore_local.trust, sigstore_local.identity("lab"))
