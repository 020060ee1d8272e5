"""What a lab needs once its chain and Sigstore instance answer: contract, profile, partners' directories, Prefect's set-up."""

from pathlib import Path
from typing import Any

from vlab import anchoring, sigstore_local
from vlab.journal import write_whole
from vlab.records import LabProfile
from vlab.services.layout import PARTNERS, POOLS, Layout, boards
from vlab.settings import checkout


def create_account(layout: Layout) -> None:
    """Make the chain account, where there is none."""
    if not layout.key_file.exists():
        anchoring.create_account(layout.key_file, layout.password_file)


def write_profile(layout: Layout) -> LabProfile:
    """Deploy the contract where that is still to be done, and write the profile for everybody who verifies.

    Raises:
        ChainError: the chain is not the one this lab was set up with.
        ServiceDownError: chain or Sigstore instance do not answer.
    """
    pin = anchoring.deploy(
        layout.chain_url,
        layout.key_file,
        layout.password_file,
        layout.outbox,
        origin=layout.ledger_origin,
        record=layout.home / "chain" / "contract.json",
    )
    profile = LabProfile(
        name="local-lab",
        trust="embedded",
        trust_config="trust.json",
        lab_identity=sigstore_local.identity_of("lab", layout.sigstore_url),
        worker_identities={partner: sigstore_local.identity_of(partner, layout.sigstore_url) for partner in PARTNERS},
        ledger_origin=layout.ledger_origin,
        chain=pin,
        prefect_api_url=f"{layout.prefect_url}/api",
        tracking_url=layout.tracking_url,
    )
    state = layout.home / "sigstore"
    trust = sigstore_local.trust_file(state).read_bytes()
    for home in (layout.home, *map(layout.worker_home, PARTNERS)):
        write_whole(home / "trust.json", trust)
    for partner in PARTNERS:
        secret = sigstore_local.secret_file(state, partner).read_bytes()
        write_whole(_partner_secret(layout, partner), secret, mode=0o600)
        write_whole(layout.worker_home(partner) / "lab.json", profile.to_json())
    write_whole(layout.home / "lab.json", profile.to_json())  # last: where it is, the rest is there too
    return profile


def prefect_setup(layout: Layout, profile: LabProfile) -> dict[str, Any]:
    """What `blocks.register` is to create."""
    pin, here = profile.chain, boards(layout.home)

    def signer(name: str, trust: Path, secret: Path) -> dict[str, str]:
        identity = sigstore_local.identity_of(name, layout.sigstore_url)
        return {
            "trust_config": str(trust),
            "token_url": sigstore_local.token_url(layout.sigstore_url),
            "client_id": name,
            "secret_file": str(secret),
            "san": identity.san,
            "issuer": identity.issuer,
        }

    lab_secret = sigstore_local.secret_file(layout.home / "sigstore", "lab")
    signers = {"lab": signer("lab", layout.home / "trust.json", lab_secret)}
    for partner in PARTNERS:
        signers[partner] = signer(partner, layout.worker_home(partner) / "trust.json", _partner_secret(layout, partner))
    account = {"key_file": str(layout.key_file), "password_file": str(layout.password_file), "outbox": str(layout.outbox)}
    return {
        "pools": dict.fromkeys(POOLS, str(checkout())),
        "limits": {f"board-{board.name}": 1 for board in here},
        "tracking": {"lab": {"url": layout.tracking_url}},
        "signers": signers,
        "chain_accounts": {"lab": {**pin.model_dump(mode="json"), **account}},
        "boards": {
            board.name: {
                "board": board.name,
                "partner": board.info.partner,
                "target": board.target,
                "transport": {"kind": board.transport},
            }
            for board in here
        },
    }


def _partner_secret(layout: Layout, partner: str) -> Path:
    return layout.worker_home(partner) / "client.secret"
