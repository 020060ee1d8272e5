"""Real parts for integration tests, each on loopback and a free port."""

import base64
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import urlsplit

import pytest

from vlab import sigstore_local as local
from vlab.anchoring import create_account
from vlab.records import Identity
from vlab.signing import ClientCredentials, Signer


@dataclass
class DevelopmentService:
    """A service of vlab for development, in a process of its own."""

    module: ClassVar[str]
    state: Path
    process: subprocess.Popen[str]
    url: str

    @classmethod
    def start(cls, state: Path, *options: str, port: int = 0) -> Self:
        """Start on a free port, or on the one the state belongs to or that is given, and wait until it answers."""
        command = [sys.executable, "-m", cls.module, "--state", str(state), "--port", str(port), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        word, _, url = process.stdout.readline().strip().partition(" ")
        assert word == "ready"
        return cls(state, process, url)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it and give its exit status."""
        self.process.send_signal(how)
        return self.process.wait(10)


class SigstoreProcess(DevelopmentService):
    """A running local Sigstore-compatible instance."""

    module = "vlab.sigstore_local"

    @property
    def base_url(self) -> str:
        """Where its services are."""
        return self.url

    @property
    def trust(self) -> Path:
        """Its client trust configuration."""
        return local.trust_file(self.state)

    def identity(self, client: str) -> Identity:
        """Who a client signs as."""
        return local.identity_of(client, self.base_url)

    def tokens(self, client: str) -> ClientCredentials:
        """Identity tokens of a client."""
        return ClientCredentials(local.token_url(self.base_url), client, local.secret_file(self.state, client))

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of one answer."""
        connection = http.client.HTTPConnection(self.base_url.removeprefix("http://"), timeout=10)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        got = answer.status, answer.read()
        connection.close()
        return got

    @property
    def log_path(self) -> str:
        """Path of the transparency log's API."""
        config = json.loads(self.trust.read_text())
        return urlsplit(config["signingConfig"]["rekorTlogUrls"][0]["url"]).path + "/api/v2"

    def log_head(self) -> tuple[int, bytes]:
        """Size and root that the log signs."""
        _, text = self.ask("GET", f"{self.log_path}/checkpoint")
        _, size, root, _ = text.decode().split("\n", 3)
        return int(size), base64.b64decode(root)

    def signer(self, client: str = "lab", *, deadline_s: float = 30) -> Signer:
        """A signer for a client."""
        return Signer(self.trust, self.tokens(client), self.identity(client), deadline_s=deadline_s)


@pytest.fixture(scope="session")
def sigstore_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SigstoreProcess]:
    """One local Sigstore-compatible instance for the whole session."""
    instance = SigstoreProcess.start(tmp_path_factory.mktemp("sigstore"))
    yield instance
    assert instance.stop() == 0


class ChainProcess(DevelopmentService):
    """A running development chain."""

    module = "vlab.devchain"

    @property
    def rpc_url(self) -> str:
        """Where it answers JSON-RPC."""
        return self.url


@dataclass(frozen=True)
class ChainAccount:
    """An account with money on the development chain, and its outbox."""

    folder: Path
    address: str

    @classmethod
    def create(cls, folder: Path) -> "ChainAccount":
        """Make a new account in a folder."""
        return cls(folder, create_account(folder / "key.json", folder / "password"))

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """Keystore, password and outbox."""
        return self.folder / "key.json", self.folder / "password", self.folder / "outbox.sqlite"


@pytest.fixture(scope="session")
def chain_account(tmp_path_factory: pytest.TempPathFactory) -> ChainAccount:
    """The account that has money on `devchain`."""
    return ChainAccount.create(tmp_path_factory.mktemp("account"))


@pytest.fixture(scope="session")
def devchain(tmp_path_factory: pytest.TempPathFactory, chain_account: ChainAccount) -> Iterator[ChainProcess]:
    """One development chain for the whole session."""
    chain = ChainProcess.start(tmp_path_factory.mktemp("chain"), "--fund", chain_account.address)
    yield chain
    assert chain.stop() == 0
