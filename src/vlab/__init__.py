"""VLab: benchmarks of AI models on partners' boards, as evidence that anyone can verify.

    from vlab import Lab

    run = Lab().benchmark("model.onnx", targets=["riscv/rv64gc-linux"])
    run.wait()
    run.results()      # a pandas DataFrame
    run.verify()

The parts, each a module: `targets` (kinds of board), `compiling` (model to artifact), `deploying` (artifact to board),
`measuring` (board to numbers), `statistics` (samples to figures with intervals), `tracking` (the artifact store and MLflow),
`provenance` (statements), `signing` (bundles), `merkle` and `ledger` (the lab's append-only log), `anchoring` (the witness on
chain), `verifying` (the whole way back), `client` (this door), `services` (a local lab).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlab.client import Lab

__all__ = ["Lab"]


def __getattr__(name: str) -> Any:
    """Import the client only when it is used: it brings Prefect."""
    if name == "Lab":
        return import_module("vlab.client").Lab
    raise AttributeError(f"module 'vlab' has no attribute {name!r}")
