"""Sign statements with short-lived certificates."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from vlab.errors import EvidenceError, RefusedError, ServiceDownError, TransientError
from vlab.records import Identity
from vlab.signing.attempts import Attempt, current_attempt, translated
from vlab.signing.bundles import BundleCode, BundleError, verify_bundle
from vlab.signing.tokens import TokenSource
from vlab.signing.trust import client_trust_config, signing_address

if TYPE_CHECKING:
    import requests
    from sigstore.sign import Signer as SigstoreSigner

CERTIFICATE_USE_S: Final = 480
"""A certificate lives ten minutes; after eight a new one is asked for."""

_SOCKET_TIMEOUT_S = 30
_PAUSES_S = (0.2, 1.0, 3.0)


class Signer:
    """Signs statements as one identity; safe to share between threads."""

    def __init__(self, trust_config: Path, tokens: TokenSource, identity: Identity, *, deadline_s: float = 60) -> None:
        """Prepare to sign; nothing is contacted yet.

        Args:
            trust_config: Sigstore client trust configuration with its signing part.
            tokens: gives the identity tokens.
            identity: who the signatures will be verified to be from.
            deadline_s: most that one `sign` may take, retries included.
        """
        self._trust_config = trust_config
        self._tokens = tokens
        self._identity = identity
        self._deadline_s = deadline_s
        self._cached: tuple[SigstoreSigner, float] | None = None

    def sign(self, statement: bytes) -> bytes:
        """Sign the exact bytes of a statement and log the signature; what comes back has been verified.

        Tried again while time is left, but never after the log was asked to write: an entry may then exist.

        Returns:
            The Sigstore bundle as JSON.

        Raises:
            ServiceDownError: a service did not answer within the deadline.
            RefusedError: a service refused, with its words; or the statement is not one.
            BundleError: the instance's answer does not verify for this identity.
        """
        deadline = time.monotonic() + self._deadline_s
        pauses = iter(_PAUSES_S)
        while True:
            attempt = Attempt(lambda: self._sign_once(statement))
            try:
                bundle = attempt.result(deadline - time.monotonic())
                break
            except Exception as error:
                problem = translated(error, "Sigstore", signing_address(self._trust_config))
                pause = next(pauses, None)
                if pause is None or attempt.reached_log or not isinstance(problem, TransientError):
                    raise problem from error
                if time.monotonic() + pause >= deadline:
                    raise problem from error
                self._cached = None
                time.sleep(pause)
        if verify_bundle(bundle, self._trust_config, self._identity) != statement:
            raise BundleError(BundleCode.SIGNATURE, "what was signed is not what was handed in")
        return bundle

    def _sign_once(self, statement: bytes) -> bytes:
        from sigstore.dsse import Statement
        from sigstore.errors import Error

        try:
            content = Statement(statement)
        except Error as error:
            raise EvidenceError(f"not an in-toto statement: {error}") from error
        return self._certified().sign_dsse(content).to_json().encode()

    def _certified(self) -> "SigstoreSigner":
        """A signer with a certificate that still lives for two minutes."""
        cached = self._cached
        if cached is not None and abs(time.time() - cached[1]) < CERTIFICATE_USE_S:
            return cached[0]
        from sigstore.oidc import IdentityToken
        from sigstore.sign import Signer as SigstoreSigner
        from sigstore.sign import SigningContext

        config = client_trust_config(self._trust_config)
        services = config.signing_config
        fulcio, authorities = services.get_fulcio(), services.get_tsas()
        if not authorities:
            raise RefusedError(f"{self._trust_config} names no timestamp authority; a signature needs a trusted time")
        _limit(fulcio.session)
        context = SigningContext(
            fulcio=fulcio,
            rekor=cast("Any", _OrderlyLog(services.get_tlogs()[0])),
            trusted_root=config.trusted_root,
            tsa_clients=cast("Any", [_RequiredTimestamps(authority) for authority in authorities]),
        )
        born = time.time()
        signer = SigstoreSigner(IdentityToken(self._tokens.token()), context)
        self._cached = (signer, born)
        return signer


class _RequiredTimestamps:
    """A timestamp client whose failure ends the signing, before anything is logged; sigstore alone would only warn."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.url: str = inner.url

    def request_timestamp(self, signature: bytes) -> Any:
        from sigstore._internal.timestamp import TimestampError

        current_attempt().go_on()
        try:
            return self._inner.request_timestamp(signature)
        except TimestampError as error:
            raise ServiceDownError("the timestamp authority", self.url, error) from error


class _OrderlyLog:
    """A log client that notes when the log is asked to write, and does not ask for a caller who has left."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._build_dsse_request = inner._build_dsse_request  # noqa: SLF001  sigstore's own seam between context and log

    def create_entry(self, request: Any) -> Any:
        attempt = current_attempt()
        attempt.go_on()
        _limit(self._inner._session)  # noqa: SLF001  one session a thread, made when first asked for
        attempt.reached_log = True
        return self._inner.create_entry(request)


def _limit(session: "requests.Session") -> None:
    """Give every request of a session a socket timeout, so that an abandoned attempt ends too."""
    from requests.adapters import HTTPAdapter

    class Limited(HTTPAdapter):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            kwargs["timeout"] = kwargs.get("timeout") or _SOCKET_TIMEOUT_S
            return super().send(request, *args, **kwargs)

    session.mount("http://", Limited())
    session.mount("https://", Limited())
