"""Assets by content, over MLflow's proxied artifact interface or in its directory.

Plain HTTP, without the MLflow library: a worker that only fetches and stores bytes saves the seconds that its import takes.
"""

import os
import re
import shutil
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO

from vlab.errors import DigestMismatchError, RefusedError, ServiceDownError
from vlab.records import AssetRef, FileRef, digest_file

MAX_ASSET_BYTES = 2 << 30
"""Largest asset fetched unless the caller says otherwise."""

STALL_TIMEOUT_S = 30.0
"""Seconds without a byte after which a connection counts as dead."""

_SCHEME = "mlflow-artifacts:/assets"
_PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_NAME = re.compile(r"(?!\.)[^/\\#?%:\x00-\x1f\x7f]{1,120}")  # what MLflow's path check lets through, and no hidden files
_CHUNK = 1 << 20


def store_put(data: bytes | Path, name: str, *, url: str) -> AssetRef:
    """Store bytes under their digest.

    Bytes that are already there are read back and compared instead of written again, so storing twice is harmless and storing
    again repairs a copy that went bad.

    Args:
        data: the bytes, or the file that holds them.
        name: file name for people, at most 120 characters.
        url: the tracking URL.

    Raises:
        RefusedError: the name is not a plain file name.
        ServiceDownError: the server does not answer.
    """
    if not _NAME.fullmatch(name):
        raise RefusedError(f"asset name {name!r}: expected a file name of at most 120 characters without / \\ # ? % : in it")
    if isinstance(data, bytes):
        file = FileRef(name=name, sha256=sha256(data).hexdigest(), size_bytes=len(data))
    else:
        file = FileRef(name=name, sha256=digest_file(data), size_bytes=data.stat().st_size)
    asset = AssetRef(uri=f"{_SCHEME}/{file.sha256}/{name}", file=file)
    if not _stored_whole(asset, url):
        _write(asset, data, url)
    return asset


def store_get(asset: AssetRef, into: Path, *, url: str, max_bytes: int = MAX_ASSET_BYTES) -> Path:
    """Fetch an asset into a directory and check its digest; return the file, named as the asset.

    A file that is already there with the right digest is not fetched again. A file with the wrong digest never appears under
    its name.

    Args:
        asset: what to fetch.
        into: directory to put it in; made if missing.
        url: the tracking URL.
        max_bytes: largest asset to accept.

    Raises:
        DigestMismatchError: the store holds other bytes.
        RefusedError: the store has no such asset, the reference is malformed, or the asset is larger than `max_bytes`.
        ServiceDownError: the server does not answer, or stopped in the middle.
    """
    _check(asset, max_bytes)
    into.mkdir(parents=True, exist_ok=True)
    target = into / asset.file.name
    if target.is_file() and target.stat().st_size == asset.file.size_bytes and digest_file(target) == asset.file.sha256:
        return target
    handle, temporary = tempfile.mkstemp(dir=into, prefix=f".{asset.file.name}.")
    try:
        with os.fdopen(handle, "wb") as out, _opened(asset, url) as stream:
            got = _copy(stream, out, limit=asset.file.size_bytes, url=url)
        if got != asset.file.sha256:
            raise DigestMismatchError(f"asset {asset.file.name}", expected=asset.file.sha256, got=got)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target


def store_read(asset: AssetRef, *, url: str, max_bytes: int = 64 << 20) -> bytes:
    """The bytes of a small asset, checked like in `store_get`."""
    with tempfile.TemporaryDirectory() as directory:
        return store_get(asset, Path(directory), url=url, max_bytes=max_bytes).read_bytes()


def _check(asset: AssetRef, max_bytes: int) -> None:
    if not _NAME.fullmatch(asset.file.name) or asset.uri != f"{_SCHEME}/{asset.file.sha256}/{asset.file.name}":
        raise RefusedError(f"asset reference {asset.uri!r}: expected {_SCHEME}/<sha256>/<name> of the file it names")
    if asset.file.size_bytes > max_bytes:
        raise RefusedError(f"asset {asset.file.name} is {asset.file.size_bytes} bytes; at most {max_bytes} are fetched here")


def _copy(stream: BinaryIO | HTTPResponse, out: BinaryIO | None, *, limit: int, url: str) -> str:
    """Copy at most `limit` bytes plus one that shows there are more; return the digest of what was read."""
    digest, left = sha256(), limit + 1
    give_up = time.monotonic() + STALL_TIMEOUT_S + limit / 100_000  # a trickle slower than 100 kB/s is a dead connection
    try:
        while left and (chunk := stream.read(min(_CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
            if out is not None:
                out.write(chunk)
            if time.monotonic() > give_up:
                raise TimeoutError(f"{limit - left} of {limit} bytes came in time")
    except (OSError, HTTPException) as error:
        raise ServiceDownError("MLflow", url, error) from error
    return digest.hexdigest()


@contextmanager
def _opened(asset: AssetRef, url: str) -> Iterator[BinaryIO | HTTPResponse]:
    """The stored bytes of an asset as a stream."""
    gone = f"the store at {url} has no asset {asset.file.name} ({asset.file.sha256}); store it again where it was made"
    if is_server(url):
        try:
            response = _request("GET", url, asset)
        except FileNotFoundError as error:
            raise RefusedError(gone) from error
        with response:
            yield response
    else:
        try:
            stream = _local_path(asset, url).open("rb")
        except FileNotFoundError as error:
            raise RefusedError(gone) from error
        with stream:
            yield stream


def _stored_whole(asset: AssetRef, url: str) -> bool:
    try:
        with _opened(asset, url) as stream:
            return _copy(stream, None, limit=asset.file.size_bytes, url=url) == asset.file.sha256
    except RefusedError:
        return False


def _write(asset: AssetRef, data: bytes | Path, url: str) -> None:
    if is_server(url):
        if isinstance(data, bytes):
            _request("PUT", url, asset, body=data).close()
        else:
            with data.open("rb") as body:
                _request("PUT", url, asset, body=body).close()
        return
    target = _local_path(asset, url)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".")
    with os.fdopen(handle, "wb") as out:
        if isinstance(data, bytes):
            out.write(data)
        else:
            with data.open("rb") as body:
                shutil.copyfileobj(body, out, _CHUNK)
    Path(temporary).replace(target)


def is_server(url: str) -> bool:
    """Whether a tracking URL names a server rather than a store on this machine."""
    return url.startswith(("http://", "https://"))


def local_root(url: str) -> Path:
    """The directory behind a tracking URL of this machine: `mlflow.db` and `artifacts/` are in it.

    Raises:
        RefusedError: the URL is none of the three forms.
    """
    path = Path(url.removeprefix("sqlite:///")).parent if url.startswith("sqlite:///") else Path(url)
    if not path.is_absolute():
        raise RefusedError(f"tracking URL {url!r}: expected http(s)://…, sqlite:////absolute/path.db or an absolute directory")
    return path


def _local_path(asset: AssetRef, url: str) -> Path:
    return local_root(url) / "artifacts" / "assets" / asset.file.sha256 / asset.file.name


def _request(method: str, url: str, asset: AssetRef, *, body: bytes | BinaryIO | None = None) -> HTTPResponse:
    """One call of MLflow's proxied artifact interface.

    Raises:
        FileNotFoundError: the server has no such asset.
        ServiceDownError: it does not answer or fails.
        RefusedError: it does not want the request.
    """
    address = f"{url.rstrip('/')}{_PROXY}/assets/{asset.file.sha256}/{urllib.parse.quote(asset.file.name)}"
    headers = {"Content-Type": "application/octet-stream"}
    if body is not None:
        headers["Content-Length"] = str(asset.file.size_bytes)
    request = urllib.request.Request(address, data=body, headers=headers, method=method)  # noqa: S310 - is_server checked it
    try:
        return urllib.request.urlopen(request, timeout=STALL_TIMEOUT_S)  # type: ignore[no-any-return]  # noqa: S310
    except urllib.error.HTTPError as error:
        answer = error.read(500).decode(errors="replace")
        # The proxy answers 500 for a file that is not there when the store below it is a local directory.
        if error.code == 404 or "No such file" in answer or "No such artifact" in answer:
            raise FileNotFoundError(address) from error
        if error.code < 500:
            raise RefusedError(f"MLflow at {url} refused {method} {asset.uri}: {error.code} {answer}") from error
        raise ServiceDownError("MLflow", url, f"{error.code} {answer}") from error
    except (OSError, HTTPException) as error:
        raise ServiceDownError("MLflow", url, getattr(error, "reason", error)) from error
