"""The local Sigstore-compatible instance as a process: what it serves, refuses and survives."""

import base64
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.parse
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.conftest import SigstoreProcess
from vlab import merkle
from vlab.errors import RefusedError, ServiceDownError
from vlab.records import Identity
from vlab.signing import verify_bundle
from vlab.sigstore_local import identity_of
from vlab.sigstore_local.tree import Tree

STATEMENT = json.dumps(
    {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "result.json", "digest": {"sha256": "ab" * 32}}],
        "predicateType": "https://example.com/test/v1",
        "predicate": {},
    }
).encode()
FORM = {"content-type": "application/x-www-form-urlencoded"}


def request_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Body of a certificate request for a key."""
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    pem = csr.public_bytes(serialization.Encoding.PEM)
    return json.dumps({"certificateSigningRequest": base64.b64encode(pem).decode()}).encode()


def entry_request(bundle: dict[str, Any]) -> dict[str, Any]:
    """The request that logged a bundle."""
    body = json.loads(base64.b64decode(bundle["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"]))
    spec = body["spec"]["hashedRekordV002"]
    return {"hashedRekordRequestV002": {"digest": spec["data"]["digest"], "signature": spec["signature"]}}


# ---------------------------------------------------------------- what it serves


def test_health(sigstore_local: SigstoreProcess) -> None:
    """The instance says that it is well."""
    status, body = sigstore_local.ask("GET", "/healthz")

    assert (200, "ok") == (status, json.loads(body)["status"])


def test_discovery_is_enough_for_clients(sigstore_local: SigstoreProcess) -> None:
    """Sigstore clients read the discovery document and refuse it without both endpoints; the key set has the signing key."""
    from sigstore.oidc import Issuer

    discovery = json.loads(sigstore_local.ask("GET", "/.well-known/openid-configuration")[1])
    keys = json.loads(sigstore_local.ask("GET", "/jwks")[1])["keys"]

    Issuer(sigstore_local.base_url)
    assert sigstore_local.base_url == discovery["issuer"]
    assert ["ES256"] == [key["alg"] for key in keys]
    assert "d" not in keys[0]


def test_state_is_private(sigstore_local: SigstoreProcess) -> None:
    """Nobody but the owner can read keys, secrets or hashes."""
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in sigstore_local.state.rglob("*") if path.is_file()}

    assert {} == {path.name: oct(mode) for path, mode in modes.items() if mode & 0o077}
    assert 0o700 == stat.S_IMODE((sigstore_local.state / "clients").stat().st_mode)


def test_secrets_are_kept_as_salted_hashes(sigstore_local: SigstoreProcess) -> None:
    """What the issuer itself reads does not hold the secrets."""
    kept = (sigstore_local.state / "clients.json").read_text()
    secrets = [path.read_text() for path in (sigstore_local.state / "clients").iterdir()]

    assert 3 == len(secrets) == len(set(secrets))
    assert [] == [secret for secret in secrets if secret in kept]


def test_identities_are_known_beforehand(sigstore_local: SigstoreProcess) -> None:
    """A profile can be written without asking the instance; an unknown client is refused."""
    assert Identity(san="spiffe://vlab.local/partner-a/worker", issuer=sigstore_local.base_url) == identity_of(
        "partner-a", sigstore_local.base_url
    )
    with pytest.raises(RefusedError, match="lab, partner-a, partner-b"):
        identity_of("partner-z", sigstore_local.base_url)


def test_timestamps_verify_with_openssl(sigstore_local: SigstoreProcess, tmp_path: Path) -> None:
    """An independent client makes the request and verifies the answer."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing; install it with: apt-get install openssl")
    (tmp_path / "data").write_bytes(b"some signature")
    query, reply = tmp_path / "q.tsq", tmp_path / "r.tsr"
    subprocess.run(
        ["openssl", "ts", "-query", "-data", tmp_path / "data", "-sha256", "-cert", "-out", query],
        check=True,
        capture_output=True,
    )
    status, answer = sigstore_local.ask("POST", "/api/v1/timestamp", query.read_bytes())
    reply.write_bytes(answer)
    checked = subprocess.run(
        ["openssl", "ts", "-verify", "-queryfile", query, "-in", reply, "-CAfile", sigstore_local.state / "tsa-root.crt.pem"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 201 == status
    assert "Verification: OK" in checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("algorithm", "length", "policy", "granted"),
    [
        ("sha256", 32, None, True),
        ("sha512", 64, "1.3.6.1.4.1.57264.2", True),
        ("sha256", 31, None, False),
        ("sha1", 20, None, False),
        ("sha256", 32, "1.2.3.4", False),
    ],
)
def test_timestamps_that_are_not_given(
    sigstore_local: SigstoreProcess, algorithm: str, length: int, policy: str | None, granted: bool
) -> None:
    """Weak digests, digests of the wrong length and foreign policies get a rejection, not a token."""
    from asn1crypto import tsp
    from rfc3161_client import decode_timestamp_response

    request: dict[str, Any] = {
        "version": "v1",
        "message_imprint": {"hash_algorithm": {"algorithm": algorithm}, "hashed_message": bytes(length)},
    }
    if policy:
        request["req_policy"] = policy
    _, answer = sigstore_local.ask("POST", "/api/v1/timestamp", tsp.TimeStampReq(request).dump())
    response = decode_timestamp_response(answer)

    assert (0 if granted else 2) == response.status


def test_command_line_client_signs_and_verifies(sigstore_local: SigstoreProcess, tmp_path: Path) -> None:
    """The sigstore command accepts the instance by its trust configuration alone."""
    (tmp_path / "model.onnx").write_bytes(b"a model")
    command = [sys.executable, "-m", "sigstore", "--trust-config", sigstore_local.trust]
    identity = sigstore_local.identity("lab")
    subprocess.run(
        [*command, "sign", tmp_path / "model.onnx"],
        env=os.environ | {"SIGSTORE_IDENTITY_TOKEN": sigstore_local.tokens("lab").token()},
        check=True,
        capture_output=True,
    )
    verify = [*command, "verify", "identity", "--cert-identity", identity.san, "--cert-oidc-issuer", identity.issuer]

    assert 0 == subprocess.run([*verify, tmp_path / "model.onnx"], check=False, capture_output=True).returncode


def test_anyone_can_read_the_whole_log(sigstore_local: SigstoreProcess) -> None:
    """Tiles and entry bundles give every leaf, and the leaves give the root that the checkpoint signs."""
    sigstore_local.signer().sign(STATEMENT)
    size, root = sigstore_local.log_head()
    leaves, entries = [], b""
    for tile in range(0, size, 256):
        width = min(256, size - tile)
        part = "" if width == 256 else f".p/{width}"
        place = f"{tile // 256:03d}{part}"
        status, hashes_ = sigstore_local.ask("GET", f"{sigstore_local.log_path}/tile/0/{place}")
        assert 200 == status
        leaves += [hashes_[at : at + 32] for at in range(0, len(hashes_), 32)]
        entries += sigstore_local.ask("GET", f"{sigstore_local.log_path}/tile/entries/{place}")[1]
    bodies = []
    while entries:
        length = int.from_bytes(entries[:2], "big")
        bodies.append(entries[2 : 2 + length])
        entries = entries[2 + length :]

    assert size == len(leaves) == len(bodies)
    assert leaves == [merkle.leaf_hash(body) for body in bodies]
    assert root == merkle.root(leaves)


@pytest.mark.parametrize(
    "path", ["0/999", "0/000.p/999", "9/000", "60/000", "x/000", "0/1", "entries/x999/999", "0/../../etc/passwd"]
)
def test_tiles_that_are_not_there(sigstore_local: SigstoreProcess, path: str) -> None:
    """Any other tile is not found."""
    assert 404 == sigstore_local.ask("GET", f"{sigstore_local.log_path}/tile/{path}")[0]


# ---------------------------------------------------------------- what it refuses


def certificate_status(instance: SigstoreProcess, body: bytes, token: str | None) -> int:
    """Status of a certificate request."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return instance.ask("POST", "/api/v2/signingCert", body, headers)[0]


def test_token_is_good_for_one_certificate(sigstore_local: SigstoreProcess) -> None:
    """A token that was seen on the way cannot be used a second time."""
    body, token = request_of(ec.generate_private_key(ec.SECP256R1())), sigstore_local.tokens("lab").token()

    assert [200, 401] == [certificate_status(sigstore_local, body, token) for _ in range(2)]


def test_tokens_that_are_not_ours(sigstore_local: SigstoreProcess) -> None:
    """No token, a changed one, one with another key or without a signature gets no certificate."""
    import jwt

    body, token = request_of(ec.generate_private_key(ec.SECP256R1())), sigstore_local.tokens("lab").token()
    claims = jwt.decode(token, options={"verify_signature": False})
    other = jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
    unsigned = jwt.encode(claims, None, algorithm="none")
    head, _, tail = token.split(".")
    as_partner = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "spiffe://vlab.local/partner-a/worker"}).encode())
    changed = f"{head}.{as_partner.decode().rstrip('=')}.{tail}"

    assert [401] * 6 == [certificate_status(sigstore_local, body, one) for one in (None, "", "x", other, unsigned, changed)]
    assert 200 == certificate_status(sigstore_local, body, token)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP256K1()])
def test_only_p256_keys_are_certified(sigstore_local: SigstoreProcess, curve: ec.EllipticCurve) -> None:
    """Keys of other curves get no certificate, and cost no token."""
    token = sigstore_local.tokens("lab").token()

    assert 400 == certificate_status(sigstore_local, request_of(ec.generate_private_key(curve)), token)
    assert 200 == certificate_status(sigstore_local, request_of(ec.generate_private_key(ec.SECP256R1())), token)


def test_key_has_to_be_in_the_clients_hand(sigstore_local: SigstoreProcess) -> None:
    """A signing request whose signature is not by its own key is refused."""
    body = json.loads(request_of(ec.generate_private_key(ec.SECP256R1())))
    pem = base64.b64decode(body["certificateSigningRequest"]).decode()
    der = bytearray(base64.b64decode("".join(pem.splitlines()[1:-1])))
    der[-1] ^= 1
    pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{base64.b64encode(der).decode()}\n-----END CERTIFICATE REQUEST-----\n"
    forged = json.dumps({"certificateSigningRequest": base64.b64encode(pem.encode()).decode()}).encode()

    assert 400 == certificate_status(sigstore_local, forged, sigstore_local.tokens("lab").token())


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({}, 400),
        ({"grant_type": "password"}, 400),
        ({"grant_type": "client_credentials"}, 401),
        ({"grant_type": "client_credentials", "client_id": "lab", "client_secret": "x"}, 401),
        ({"grant_type": "client_credentials", "client_id": "nobody", "client_secret": "x"}, 401),
        ({"grant_type": "client_credentials", "client_id": "lab", "audience": "other"}, 400),
    ],
)
def test_token_requests_that_are_refused(sigstore_local: SigstoreProcess, form: dict[str, str], status: int) -> None:
    """Other grants and audiences, unknown clients and wrong secrets get no token."""
    assert status == sigstore_local.ask("POST", "/token", urllib.parse.urlencode(form).encode(), FORM)[0]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/token", b"{}", {}, 400),
        ("/token", b"a=1&a=2&grant_type=client_credentials", FORM, 400),
        ("/token", b"\xff", FORM, 400),
        ("/token", b"&&&", FORM, 400),
        ("/api/v2/signingCert", b"", {}, 400),
        ("/api/v2/signingCert", b"[]", {}, 400),
        ("/api/v2/signingCert", b'{"certificateSigningRequest": 7}', {}, 400),
        ("/api/v2/signingCert", b'{"certificateSigningRequest": "!"}', {}, 400),
        ("/api/v2/signingCert", b'{"certificateSigningRequest": "AAAA"}', {"authorization": "Bearer x"}, 400),
        ("/api/v2/signingCert", b"[" * 60_000, {}, 400),
        ("/api/v1/timestamp", b"", {}, 400),
        ("/api/v1/timestamp", b"\x30\x80\x00", {}, 400),
        ("/api/v1/timestamp", b"x" * 100, {}, 400),
        ("/api/v1/timestamp", b"x" * 70_000, {}, 413),
        ("/authorize", b"", {}, 405),
        ("/nowhere", b"", {}, 404),
    ],
)
def test_malformed_requests_are_the_clients_fault(
    sigstore_local: SigstoreProcess, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Whatever is sent, the answer is a 4xx and the instance goes on."""
    assert status == sigstore_local.ask("POST", path, body, headers)[0]
    assert 200 == sigstore_local.ask("GET", "/healthz")[0]


def test_log_refuses_what_it_should_not_hold(sigstore_local: SigstoreProcess, tmp_path: Path) -> None:
    """Extra fields, other digests, broken base64, other key kinds and foreign certificates are not logged."""
    bundle = json.loads(sigstore_local.signer().sign(STATEMENT))
    foreign = SigstoreProcess.start(tmp_path / "foreign")
    try:
        other = json.loads(foreign.signer().sign(STATEMENT))
    finally:
        foreign.stop()
    path, size = f"{sigstore_local.log_path}/log/entries", sigstore_local.log_head()[0]

    def status(*place: str, value: Any = None, start: dict[str, Any] = bundle) -> int:
        request = entry_request(start)
        inner = request
        for step in place[:-1]:
            inner = inner[step]
        if place:
            inner[place[-1]] = value
        return sigstore_local.ask("POST", path, json.dumps(request).encode())[0]

    rekord = "hashedRekordRequestV002"
    digest = entry_request(bundle)[rekord]["digest"]
    refused = [
        status("more", value=1),
        status(rekord, "more", value=1),
        status(rekord, value=None),
        status(rekord, "digest", value=base64.b64encode(sha256(b"other").digest()).decode()),
        status(rekord, "digest", value=base64.b64encode(b"short").decode()),
        status(rekord, "digest", value=digest + "\n"),
        status(rekord, "digest", value=7),
        status(rekord, "signature", "content", value="AAAA"),
        status(rekord, "signature", "verifier", "keyDetails", value="PKIX_ED25519"),
        status(rekord, "signature", "verifier", "x509Certificate", "rawBytes", value="AAAA"),
        status(start=other),
    ]

    assert [400] * 11 == refused
    assert size == sigstore_local.log_head()[0]


def test_logging_again_gives_the_same_entry(sigstore_local: SigstoreProcess) -> None:
    """The same signature is logged once, however often it is sent."""
    bundle = json.loads(sigstore_local.signer().sign(STATEMENT))
    size = sigstore_local.log_head()[0]
    status, answer = sigstore_local.ask(
        "POST", f"{sigstore_local.log_path}/log/entries", json.dumps(entry_request(bundle)).encode()
    )

    assert 201 == status
    assert bundle["verificationMaterial"]["tlogEntries"][0]["logIndex"] == json.loads(answer)["logIndex"]
    assert size == sigstore_local.log_head()[0]


def test_foreign_host_names_are_refused(sigstore_local: SigstoreProcess) -> None:
    """A page in a browser cannot reach the instance under a name of its own."""
    assert 400 == sigstore_local.ask("GET", "/healthz", headers={"host": "evil.example"})[0]


def test_instance_listens_on_loopback_only(sigstore_local: SigstoreProcess) -> None:
    """The port is open on 127.0.0.1 and on no other address of this machine."""
    port = int(sigstore_local.base_url.rpartition(":")[2])
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:] + Path("/proc/net/tcp6").read_text().splitlines()[1:]
    listening = [row.split()[1] for row in rows if row.split()[3] == "0A"]

    assert [f"0100007F:{port:04X}"] == [address for address in listening if address.endswith(f":{port:04X}")]


# ---------------------------------------------------------------- what it survives


def cannot_start(state: Path, port: int, *more: str) -> str:
    """What an instance says that does not start."""
    ended = subprocess.run(
        [sys.executable, "-m", "vlab.sigstore_local", "--state", state, "--port", str(port), *more],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert 1 == ended.returncode
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_one_process_a_state(sigstore_local: SigstoreProcess) -> None:
    """A second instance on the same state does not start."""
    assert "another instance runs" in cannot_start(sigstore_local.state, 0)


def test_port_is_part_of_the_state(tmp_path: Path) -> None:
    """A state does not start on another port, because the issuer's name has it."""
    instance = SigstoreProcess.start(tmp_path)
    instance.stop()

    assert "belongs to port" in cannot_start(tmp_path, 65_000)


def test_taken_port_is_named(tmp_path: Path) -> None:
    """A port in use is an error that says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        assert "choose another --port" in cannot_start(tmp_path, taken.getsockname()[1])


def test_damaged_state_is_named(tmp_path: Path) -> None:
    """A certificate that does not belong to its key is found at start."""
    SigstoreProcess.start(tmp_path).stop()
    (tmp_path / "tsa.key.pem").unlink()

    assert "does not belong to tsa.key.pem" in cannot_start(tmp_path, 0)


def test_client_names_have_to_be_spiffe_ids(tmp_path: Path) -> None:
    """A client signs as a SPIFFE ID and as nothing else."""
    assert "not a SPIFFE ID" in cannot_start(tmp_path, 0, "--client", "x=https://example.com/x")


def test_clients_can_be_chosen_and_removed(tmp_path: Path) -> None:
    """Clients given on the command line replace the default ones; a removed client's secret is of no use any more."""
    instance = SigstoreProcess.start(tmp_path)
    tokens, port = instance.tokens("partner-a"), instance.base_url.rpartition(":")[2]
    tokens.token()
    instance.stop()
    command = [sys.executable, "-m", "vlab.sigstore_local", "--state", tmp_path, "--port", port]
    chosen = subprocess.Popen(
        [*command, "--client", "lab=spiffe://vlab.local/lab", "--client", "x=spiffe://vlab.local/x"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert chosen.stdout is not None
        assert chosen.stdout.readline().startswith("ready ")
        again = SigstoreProcess(tmp_path, chosen, instance.base_url)
        again.tokens("lab").token()
        again.tokens("x").token()
        with pytest.raises(RefusedError, match="unknown client"):
            tokens.token()
    finally:
        chosen.terminate()
        chosen.wait(10)


def test_restart_changes_nothing(tmp_path: Path) -> None:
    """Stopped politely and started again, the instance has the same keys, log and issuer, and old bundles verify."""
    instance = SigstoreProcess.start(tmp_path)
    bundle, trust, head = instance.signer().sign(STATEMENT), instance.trust.read_bytes(), instance.log_head()
    assert 0 == instance.stop()

    again = SigstoreProcess.start(tmp_path)
    try:
        assert (instance.base_url, trust, head) == (again.base_url, again.trust.read_bytes(), again.log_head())
        assert STATEMENT == verify_bundle(bundle, again.trust, again.identity("lab"))
        entry = json.loads(again.signer().sign(STATEMENT))["verificationMaterial"]["tlogEntries"][0]
        assert str(head[0]) == entry["logIndex"]
    finally:
        again.stop()


def test_killed_instance_leaves_a_consistent_log(tmp_path: Path) -> None:
    """Killed while it signs, the instance starts again with every entry it ever answered for, and goes on."""
    instance = SigstoreProcess.start(tmp_path)
    bundles: list[bytes] = []

    def sign_until_it_is_gone() -> None:
        signer = instance.signer(deadline_s=1)
        try:
            while True:
                bundles.append(signer.sign(STATEMENT))
        except ServiceDownError:
            return

    threads = [threading.Thread(target=sign_until_it_is_gone) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(bundles) < 12:
        time.sleep(0.01)
    instance.stop(signal.SIGKILL)
    for thread in threads:
        thread.join()

    again = SigstoreProcess.start(tmp_path)
    try:
        more = again.signer().sign(STATEMENT)
        size, root = again.log_head()
        tree = Tree(tmp_path / "rekor.db")
        bodies = tree.bodies(0, size)
        tree.close()

        assert root == merkle.root([merkle.leaf_hash(body) for body in bodies])
        assert len(bundles) + 1 <= size
        for bundle in [*bundles, more]:
            assert STATEMENT == verify_bundle(bundle, again.trust, again.identity("lab"))
            entry = json.loads(bundle)["verificationMaterial"]["tlogEntries"][0]
            assert base64.b64decode(entry["canonicalizedBody"]) == bodies[int(entry["logIndex"])]
    finally:
        again.stop()
