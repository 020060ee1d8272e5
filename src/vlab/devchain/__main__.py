"""`python -m vlab.devchain`: run the development chain until SIGTERM or SIGINT."""

import argparse
import re
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from vlab.devchain import FUNDED_WEI
from vlab.errors import RefusedError

THREAD_STACK_BYTES = 64 << 20
"""py-evm lifts Python's recursion limit to 100,000, which deeply nested JSON would use to overflow a thread's usual stack."""


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m vlab.devchain", description="A development chain on 127.0.0.1.")
    parser.add_argument("--state", type=Path, required=True, help="directory that holds the chain; made if there is none")
    parser.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--fund", type=_address, action="append", default=[], help="account to provide with play money")
    parser.add_argument("--anvil", action="store_true", help="run the program `anvil` instead of the built-in chain")
    options = parser.parse_args()
    try:
        options.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        run = run_anvil if options.anvil else run_builtin
        run(options.state, options.port, options.fund)
    except (RefusedError, OSError) as error:
        sys.stderr.write(f"devchain: {error}\n")
        return 1
    return 0


def run_builtin(state: Path, port: int, fund: list[str]) -> None:
    """Serve the built-in chain."""
    from vlab.devchain.chain import DevChain
    from vlab.devchain.rpc import Rpc
    from vlab.devchain.server import Server

    threading.stack_size(THREAD_STACK_BYTES)
    chain = DevChain(state / "chain.sqlite")
    for address in fund:
        chain.fund(bytes.fromhex(address[2:]), FUNDED_WEI)
    with Server(Rpc(chain), port) as server:
        stopping = threading.Event()

        def stop(_signal: int, _frame: FrameType | None) -> None:
            stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        sys.stdout.write(f"ready http://127.0.0.1:{server.server_port}\n")
        sys.stdout.flush()
        stopping.wait()
        server.shutdown()
    chain.close()


def run_anvil(state: Path, port: int, fund: list[str]) -> None:
    """Become anvil."""
    from vlab.devchain import anvil

    anvil.run(state, port, fund)


def _address(text: str) -> str:
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", text):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected an address: 0x and 40 hex characters")
    return text


if __name__ == "__main__":
    sys.exit(main())
