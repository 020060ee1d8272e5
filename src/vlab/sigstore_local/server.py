"""The HTTP face: reads a bounded request, asks the part it is for, answers JSON errors. One event loop serialises all work."""

import asyncio
import base64
import binascii
import json
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from vlab.sigstore_local import trust_file
from vlab.sigstore_local.authority import Authority
from vlab.sigstore_local.certificates import Authorities
from vlab.sigstore_local.issuer import Issuer
from vlab.sigstore_local.log import TransparencyLog
from vlab.sigstore_local.state import Instance, Rejected, write_atomically
from vlab.sigstore_local.timestamps import TimestampAuthority
from vlab.sigstore_local.trust import TIMESTAMP_PATH, trust_configuration

MAX_BODY_BYTES = 64 * 1024
BODY_SECONDS = 10

_FORM = "application/x-www-form-urlencoded"


class Services:
    """The parts of one instance, and its trust configuration on disk."""

    def __init__(self, state: Path, instance: Instance, clients: Mapping[str, str]) -> None:
        authorities = Authorities(state)
        self.instance = instance
        self.issuer = Issuer(state, instance.base_url, clients)
        self.authority = Authority(state, authorities, self.issuer)
        self.log = TransparencyLog(state, instance.origin, authorities.intermediate)
        self.timestamps = TimestampAuthority(authorities)
        trust = trust_configuration(
            instance.base_url, instance.origin, authorities, ct_key=self.authority.ct_key, log_key=self.log.key
        )
        write_atomically(trust_file(state), json.dumps(trust, indent=1).encode())

    def close(self) -> None:
        """Close every file."""
        self.issuer.close()
        self.authority.close()
        self.log.close()


def application(services: Services, announce: Callable[[], None]) -> Starlette:
    """The ASGI application; `announce` is called once it answers."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        announce()
        yield
        services.close()

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "instance": services.instance.id})

    async def discovery(_: Request) -> Response:
        return JSONResponse(services.issuer.discovery())

    async def jwks(_: Request) -> Response:
        return JSONResponse(services.issuer.jwks())

    async def authorize(_: Request) -> Response:
        raise Rejected(400, "this issuer has no interactive sign-in; ask /token with grant_type=client_credentials")

    async def token(request: Request) -> Response:
        answer = services.issuer.token(_form(request, await _body(request)))
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    async def certificate(request: Request) -> Response:
        signing_request = _signing_request(await _body(request))
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not bearer:
            raise Rejected(401, "no identity token; expected the header Authorization: Bearer TOKEN")
        return JSONResponse(services.authority.sign(signing_request, bearer.strip()))

    async def trust_bundle(_: Request) -> Response:
        return JSONResponse(services.authority.trust_bundle())

    async def add_entry(request: Request) -> Response:
        return JSONResponse(services.log.add(await _body(request)), 201)

    async def checkpoint(_: Request) -> Response:
        return PlainTextResponse(services.log.checkpoint())

    async def tile(request: Request) -> Response:
        return Response(services.log.tile(request.path_params["path"]), media_type="application/octet-stream")

    async def timestamp(request: Request) -> Response:
        return Response(services.timestamps.answer(await _body(request)), 201, media_type="application/timestamp-reply")

    log = f"/{services.instance.origin}/api/v2"
    routes = [
        Route("/healthz", health),
        Route("/.well-known/openid-configuration", discovery),
        Route("/jwks", jwks),
        Route("/authorize", authorize),
        Route("/token", token, methods=["POST"]),
        Route("/api/v2/signingCert", certificate, methods=["POST"]),
        Route("/api/v2/trustBundle", trust_bundle),
        Route(f"{log}/log/entries", add_entry, methods=["POST"]),
        Route(f"{log}/checkpoint", checkpoint),
        Route(f"{log}/tile/{{path:path}}", tile),
        Route(TIMESTAMP_PATH, timestamp, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={Rejected: _answer_rejected},
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    )


def _answer_rejected(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, Rejected) else 500
    return JSONResponse({"code": status, "message": str(error), "error": str(error)}, status)


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise Rejected(413, f"the request is larger than {MAX_BODY_BYTES} bytes")
    except TimeoutError as error:
        raise Rejected(408, f"the request was not complete after {BODY_SECONDS} s") from error
    return bytes(body)


def _form(request: Request, body: bytes) -> dict[str, str]:
    if request.headers.get("content-type", "").split(";")[0].strip() != _FORM:
        raise Rejected(400, f"expected a form ({_FORM})")
    try:
        pairs = urllib.parse.parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=16)
    except ValueError as error:
        raise Rejected(400, f"not a form: {error}") from error
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Rejected(400, "a form field is given twice")
    return form


def _signing_request(body: bytes) -> bytes:
    try:
        return base64.b64decode(json.loads(body)["certificateSigningRequest"], validate=True)
    except (ValueError, TypeError, LookupError, RecursionError, binascii.Error) as error:
        raise Rejected(400, 'expected JSON {"certificateSigningRequest": base64 of a PEM signing request}') from error
