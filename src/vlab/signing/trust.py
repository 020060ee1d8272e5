"""Read Sigstore trust configurations."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vlab.errors import RefusedError

if TYPE_CHECKING:
    from sigstore.models import ClientTrustConfig, TrustedRoot

EMBEDDED_PREFIX: Final = "embedded-"
"""Operators of development instances, whose keys all lie in one hand, have names that begin so."""


def trust_is_embedded(trust_config: Path) -> bool:
    """Whether the trust configuration is that of a development instance, where one operator holds every key.

    The names of its operators are looked for, and the subjects of its certificates, which cannot be renamed.

    Raises:
        RefusedError: the trust configuration cannot be read.
    """
    return any(name.startswith(EMBEDDED_PREFIX) for name in _operators(_read_trust(trust_config)))


def trusted_root(path: Path) -> "TrustedRoot":
    """The trusted root of a client trust configuration, or of a file that is one.

    Raises:
        RefusedError: it cannot be read.
    """
    from sigstore.errors import Error
    from sigstore.models import TrustedRoot

    if "trustedRoot" in _read_trust(path):
        return client_trust_config(path).trusted_root
    try:
        return TrustedRoot.from_file(str(path))
    except (Error, ValueError) as error:
        raise RefusedError(f"{path} is neither a Sigstore client trust configuration nor a trusted root: {error}") from error


def client_trust_config(path: Path) -> "ClientTrustConfig":
    """A trust configuration with its signing part.

    Raises:
        RefusedError: it cannot be read, or is a trusted root alone.
    """
    from sigstore.errors import Error
    from sigstore.models import ClientTrustConfig

    try:
        config = ClientTrustConfig.from_json(path.read_text())
        config.trusted_root  # noqa: B018  parsed now, so that a wrong file is refused here
        config.signing_config  # noqa: B018
    except (OSError, Error, ValueError) as error:
        raise RefusedError(f"{path} is not a Sigstore client trust configuration: {error}") from error
    return config


def signing_address(trust_config: Path) -> str:
    """Where certificates are asked for, for messages.

    Raises:
        RefusedError: the file cannot be read.
    """
    services = _read_trust(trust_config).get("signingConfig", {}).get("caUrls", [])
    return str(services[0].get("url")) if services else str(trust_config)


def _read_trust(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RefusedError(f"trust configuration {path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise RefusedError(f"trust configuration {path} holds JSON {type(value).__name__}, expected an object")
    return value


def _operators(value: Any) -> Iterator[str]:
    """Every name of an operator in a trust configuration, certificates included."""
    if isinstance(value, list):
        for item in value:
            yield from _operators(item)
    if isinstance(value, dict):
        for key, item in value.items():
            if key in {"operator", "organization", "commonName"} and isinstance(item, str):
                yield item
            elif key == "certificates" and isinstance(item, list):
                yield from _subjects(item)
            else:
                yield from _operators(item)


def _subjects(certificates: list[Any]) -> Iterator[str]:
    from cryptography import x509

    for certificate in certificates:
        try:
            subject = x509.load_der_x509_certificate(base64.b64decode(certificate["rawBytes"])).subject
        except (ValueError, TypeError, LookupError) as error:
            raise RefusedError(f"the trust configuration holds a certificate that cannot be read: {error}") from error
        yield from (str(attribute.value) for attribute in subject)
