"""Chain accounts as encrypted keystore files with their passwords beside them."""

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from vlab.errors import RefusedError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

_SCRYPT_N = 1 << 14  # the password is 256 random bits, so the derivation need not be slow


def create_account(key_file: Path, password_file: Path) -> str:
    """Make an account, unless there is one; the keystore is written last, so an interrupted call can be repeated.

    Args:
        key_file: where the keystore goes (Web3 Secret Storage, version 3), mode 0600.
        password_file: where its random password goes, mode 0600.

    Returns:
        The account's address, 0x with checksum.

    Raises:
        RefusedError: there is a keystore, but its password is missing or another one.
    """
    from eth_account import Account

    if key_file.exists():
        return str(load_account(key_file, password_file).address)
    account = Account.create(secrets.token_bytes(32))
    password = secrets.token_hex(32)
    keystore = json.dumps(Account.encrypt(account.key, password, kdf="scrypt", iterations=_SCRYPT_N))
    _write_secret(password_file, password)
    _write_secret(key_file, keystore)
    return str(account.address)


def load_account(key_file: Path, password_file: Path) -> "LocalAccount":
    """Decrypt an account's key.

    Raises:
        RefusedError: a file is missing or readable by everybody, or they do not fit together.
    """
    from eth_account import Account

    for path in (key_file, password_file):
        if not path.is_file():
            raise RefusedError(f"no file {path}, which an account of the chain needs; for a local lab make it with: vlab up")
        if path.stat().st_mode & 0o007:
            raise RefusedError(f"{path} may be read by everybody; run: chmod 600 {path}")
    try:
        key = Account.decrypt(json.loads(key_file.read_bytes()), password_file.read_text(encoding="utf-8").strip())
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"{key_file} does not open with the password in {password_file} ({error})") from error
    account: LocalAccount = Account.from_key(key)
    return account


def _write_secret(path: Path, text: str) -> None:
    """Write a new file that only its owner may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
