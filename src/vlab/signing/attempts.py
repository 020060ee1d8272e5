"""Deadlines on calls that have none, and foreign exceptions as ours."""

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, cast

from vlab.errors import RefusedError, ServiceDownError, VlabError

_Value = TypeVar("_Value")


class Attempt(threading.Thread, Generic[_Value]):
    """One call in a thread of its own, because sigstore waits for silent servers without limit."""

    def __init__(self, work: Callable[[], _Value]) -> None:
        super().__init__(daemon=True, name="vlab-signing")
        self._work = work
        self._values: list[_Value] = []
        self._error: BaseException | None = None
        self._abandoned = threading.Event()
        self.reached_log = False
        """Whether the log was asked to write."""

    def run(self) -> None:
        """Make the call."""
        try:
            self._values.append(self._work())
        except BaseException as error:  # noqa: BLE001  handed to the caller's thread
            self._error = error

    def result(self, seconds: float) -> _Value:
        """What the call returned or raised.

        Raises:
            TimeoutError: nothing within `seconds`; the call will then not reach the log any more.
        """
        self.start()
        self.join(max(seconds, 0))
        if self.is_alive():
            self._abandoned.set()
            raise TimeoutError(f"no answer within {seconds:.0f} s")
        if self._error is not None:
            raise self._error
        return self._values[0]

    def go_on(self) -> None:
        """Stop here if nobody waits for the result.

        Raises:
            TimeoutError: nobody waits.
        """
        if self._abandoned.is_set():
            raise TimeoutError("given up")


def current_attempt() -> Attempt[object]:
    """The attempt whose thread this is."""
    return cast("Attempt[object]", threading.current_thread())


def translated(error: BaseException, service: str, address: str) -> VlabError:
    """A foreign exception as one of ours: who did not answer, or who refused and in what words."""
    import requests
    from requests.exceptions import ChunkedEncodingError
    from sigstore._internal.fulcio.client import ExpiredCertificate
    from sigstore.oidc import ExpiredIdentity

    if isinstance(error, VlabError):
        return error
    for cause in _causes(error):
        if isinstance(cause, requests.HTTPError) and cause.response is not None:
            answer = cause.response
            words = f"HTTP {answer.status_code}: {answer.text[:500]}"
            if answer.status_code >= 500 or answer.status_code in {408, 429}:
                return ServiceDownError(service, answer.url, words)
            return RefusedError(f"{service} at {answer.url} refused: {words}")
        if isinstance(cause, TimeoutError | requests.ConnectionError | requests.Timeout | ChunkedEncodingError):
            return ServiceDownError(service, address, cause)
        if isinstance(cause, ExpiredCertificate | ExpiredIdentity):
            return ServiceDownError(service, address, "certificate or token ran out while it was used")
    return RefusedError(f"{service} at {address} gave an answer that is not understood: {error!r}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
