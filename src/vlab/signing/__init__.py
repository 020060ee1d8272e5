"""Sign statements without keys of our own, and verify what was signed; the one package that imports sigstore (lazily).

    signer = Signer(trust_config, ClientCredentials(token_url, "lab", secret_file), identity)
    bundle = signer.sign(statement)                         # bytes of a Sigstore bundle v0.3
    payload = verify_bundle(bundle, trust_config, identity)  # the exact bytes that were signed; no network

`verify_bundle` answers who signed which bytes and when they were logged. What the bytes say is for `vlab.provenance`.
The public instance, a private one and the local one differ only by the trust configuration and the token source.

Modules: `bundles` (verify), `signer` (sign), `tokens` (identity tokens), `trust` (trust configuration), `attempts` (deadlines
and the translation of foreign exceptions).
"""

from vlab.signing.bundles import MAX_BUNDLE_BYTES, BundleCode, BundleError, verify_bundle
from vlab.signing.signer import Signer
from vlab.signing.tokens import ClientCredentials, TokenFile, TokenSource
from vlab.signing.trust import trust_is_embedded

__all__ = [
    "MAX_BUNDLE_BYTES",
    "BundleCode",
    "BundleError",
    "ClientCredentials",
    "Signer",
    "TokenFile",
    "TokenSource",
    "trust_is_embedded",
    "verify_bundle",
]
