"""What a verifier holds and pins."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from vlab.records.base import Name, Record, Sha256


class Identity(Record):
    """Who signs, as it stands in the certificate."""

    san: str = Field(description="subject alternative name, a URI")
    issuer: str = Field(description="OIDC issuer that vouches for it")


class LogHead(Record):
    """A ledger's size and root."""

    origin: str
    size: int = Field(ge=1)
    root: Sha256


class Inclusion(Record):
    """A leaf's place in the ledger of a given head (RFC 9162 section 2.1.3)."""

    index: int = Field(ge=0)
    hashes: tuple[Sha256, ...]


class Anchor(Record):
    """A ledger head accepted by the contract, final and re-read."""

    chain_id: int
    contract: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
    tx_hash: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$")]
    block_number: int = Field(ge=0)
    block_hash: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$")]
    head: LogHead


class Evidence(Record):
    """One file with everything needed to verify one result.

    Texts are kept exactly as they were signed; the file itself is canonical, so no byte of it is free.
    """

    format: Literal["vlab-evidence/v1"] = "vlab-evidence/v1"
    result: str = Field(description="result.json, exact text")
    compile_bundle: str = Field(description="Sigstore bundle of the compile statement, exact text")
    benchmark_bundle: str = Field(description="Sigstore bundle of the benchmark statement, exact text")
    compile_inclusion: Inclusion
    benchmark_inclusion: Inclusion
    anchor: Anchor


class ChainPin(Record):
    """The chain and contract that a verifier trusts, and where to ask."""

    rpc_url: str
    chain_id: int
    contract: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
    code_sha256: Sha256 = Field(description="SHA-256 of the contract's runtime code")


class LabProfile(Record):
    """What a verifier pins about a lab, and where its services are: lab.json."""

    format: Literal["vlab-profile/v1"] = "vlab-profile/v1"
    name: Name
    trust: Literal["embedded", "production"] = Field(description="embedded: one operator holds every key; development only")
    trust_config: str = Field(description="Sigstore client trust configuration, path beside this file")
    lab_identity: Identity
    worker_identities: dict[Name, Identity] = Field(description="one for each partner")
    ledger_origin: str
    chain: ChainPin
    prefect_api_url: str
    tracking_url: str
