"""The development chain as the program `anvil`: a transaction pool, a block a second, finality two blocks later."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from vlab.devchain import CHAIN_ID, FUNDED_WEI
from vlab.errors import MissingToolError, RefusedError

INSTALL = (
    "npm install --prefix ~/.local/lib/anvil @foundry-rs/anvil-linux-amd64@1.7.1 && "
    "export PATH=$PATH:~/.local/lib/anvil/node_modules/@foundry-rs/anvil-linux-amd64/bin"
)
START_TIMEOUT_S = 30


def run(state: Path, port: int, fund: list[str]) -> None:
    """Replace this process by anvil; a child funds the accounts and prints the ready line.

    The state is written every second and finality is two blocks behind, so a kill loses only what was not final yet.

    Raises:
        MissingToolError: there is no anvil on PATH.
        RefusedError: no port was given.
    """
    program = shutil.which("anvil")
    if program is None:
        raise MissingToolError(f"anvil is not on PATH; install it with: {INSTALL}")
    if port == 0:
        raise RefusedError("anvil needs a port, got 0")
    subprocess.Popen([sys.executable, "-m", "vlab.devchain.anvil", str(port), *fund])
    options = {
        "--host": "127.0.0.1", "--port": port, "--chain-id": CHAIN_ID, "--block-time": 1, "--slots-in-an-epoch": 1,
        "--state": state / "anvil.json", "--state-interval": 1, "--accounts": 0,
    }  # fmt: skip
    argv = [program, "--silent", "--preserve-historical-states"]
    os.execv(program, argv + [str(word) for option in options.items() for word in option])  # noqa: S606


def fund_when_ready(port: int, fund: list[str]) -> None:
    """Wait for the node, give the accounts their money, and print the ready line."""
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            _rpc(port, "eth_chainId")
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
    for address in fund:
        if int(_rpc(port, "eth_getBalance", address, "latest"), 16) < FUNDED_WEI:
            _rpc(port, "anvil_setBalance", address, hex(FUNDED_WEI))
    sys.stdout.write(f"ready http://127.0.0.1:{port}\n")


def _rpc(port: int, method: str, *params: str) -> str:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        return str(json.load(answer).get("result"))


if __name__ == "__main__":
    fund_when_ready(int(sys.argv[1]), sys.argv[2:])
