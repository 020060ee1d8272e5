"""Who signs, and with which Sigstore instance."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from blocks.stored import Stored

if TYPE_CHECKING:
    from vlab import signing


class Signer(Stored):
    """An identity that signs statements keylessly. The client secret stays in a file on the signer's own machine."""

    _block_type_name = "VLab Signer"
    _block_type_slug = "vlab-signer"

    trust_config: Path = Field(description="Sigstore client trust configuration, a file on the signer's machine")
    token_url: str = Field(description="token endpoint of the OIDC issuer")
    client_id: str = Field(description="OIDC client of the signer")
    secret_file: Path = Field(description="file on the signer's machine that holds the client's secret, mode 0600")
    san: str = Field(description="subject alternative name that the certificate must carry, such as spiffe://vlab.local/lab")
    issuer: str = Field(description="OIDC issuer that the certificate must carry")

    def get_signer(self) -> "signing.Signer":
        """A signer that fetches a token for each signature."""
        from vlab import signing
        from vlab.records import Identity

        tokens = signing.ClientCredentials(self.token_url, self.client_id, self.secret_file)
        return signing.Signer(self.trust_config, tokens, Identity(san=self.san, issuer=self.issuer))
