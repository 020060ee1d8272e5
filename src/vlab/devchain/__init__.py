"""A development chain on the loopback interface: one operator, no decentralisation, but a real EVM that survives a kill.

    python -m vlab.devchain --state DIR --port 8545 [--fund 0x…] [--anvil]

By default the chain runs in this process (py-evm over one SQLite file): a block for each transaction, final at once, written
to disk before the answer. With `--anvil` the program of that name runs instead, with a block a second and finality two blocks
later. In scope: what the lab's own client, contracts and verifier ask of a node. Out of scope: a transaction pool, history
of states, subscriptions, peers. A chain with more than one operator is a matter of another RPC address.
"""

CHAIN_ID = 31415
"""Chain id of every development chain."""

FUNDED_WEI = 10**21
"""What an account that is named with `--fund` has at least when the chain is ready."""
