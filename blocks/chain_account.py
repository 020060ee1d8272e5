"""The account that publishes ledger heads, and the chain and contract it publishes to."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from blocks.stored import Stored

if TYPE_CHECKING:
    from vlab import anchoring


class ChainAccount(Stored):
    """The account that publishes ledger heads. Its key stays in a keystore file on the lab's own machine."""

    _block_type_name = "VLab Chain Account"
    _block_type_slug = "vlab-chain-account"

    rpc_url: str = Field(description="JSON-RPC address of a node")
    chain_id: int = Field(description="the chain's id; another chain is refused")
    contract: str = Field(description="address of the witness contract")
    code_sha256: str = Field(description="SHA-256 of the contract's runtime code; other code is refused")
    key_file: Path = Field(description="keystore file (JSON, encrypted) on the lab's machine")
    password_file: Path = Field(description="file with the keystore's password, mode 0600")
    outbox: Path = Field(description="file in which transactions are kept until they are final")

    def get_anchorer(self) -> "anchoring.Anchorer":
        """What publishes heads with this account."""
        from vlab import anchoring
        from vlab.records import ChainPin

        pin = ChainPin(rpc_url=self.rpc_url, chain_id=self.chain_id, contract=self.contract, code_sha256=self.code_sha256)
        return anchoring.Anchorer(pin, self.key_file, self.password_file, self.outbox)
