"""Append a request's bundles to the ledger, publish its head, and assemble the evidence."""

from hashlib import sha256
from pathlib import Path

from prefect import get_run_logger, task

from blocks.chain_account import ChainAccount
from tasks.retrying import transient
from vlab import verifying
from vlab.journal import Journal
from vlab.ledger import Ledger
from vlab.records import Anchor, Evidence, Request, Result
from vlab.settings import Settings


@task(task_run_name="anchor", retries=2, retry_delay_seconds=5, retry_condition_fn=transient)
def anchor(request: Request, boards: list[str]) -> Anchor:
    """Anchor all bundles of a request under one head and write each board's evidence file into the journal."""
    settings = Settings.from_environment()
    ledger = Ledger(settings.home / "ledger.db", verifying.read_profile(settings.profile).ledger_origin)
    parts = {board: _bundles(settings.runs / request.request_id, board) for board in boards}
    compiles = [compiled for _, compiled, _ in parts.values()]
    benchmarks = [measured for _, _, measured in parts.values()]
    ledger.append([_digest(bundle) for bundle in [*compiles, *benchmarks]])  # a compile stands before the benchmark that ran it
    head = ledger.head()
    anchored = ChainAccount.load("lab").get_anchorer().publish(head, lambda size: ledger.consistency(size, head.size))
    for board, (result, compiled, measured) in parts.items():
        evidence = Evidence(
            result=result.decode(),
            compile_bundle=compiled.decode(),
            benchmark_bundle=measured.decode(),
            compile_inclusion=ledger.inclusion(_digest(compiled), anchored.head.size),
            benchmark_inclusion=ledger.inclusion(_digest(measured), anchored.head.size),
            anchor=anchored,
        )
        Journal(settings.runs / request.request_id / "boards" / board).write("evidence.json", evidence.to_json())
    get_run_logger().info("head of size %d is final in block %d", anchored.head.size, anchored.block_number)
    return anchored


def _bundles(run: Path, board: str) -> tuple[bytes, bytes, bytes]:
    """A board's result, its compile bundle and its benchmark bundle, as they were signed."""
    result = (run / "boards" / board / "result.json").read_bytes()
    target = Result.from_json(result).board.target.replace("/", "-")
    compiled = (run / "compile" / target / "compile.sigstore.json").read_bytes()
    return result, compiled, (run / "boards" / board / "benchmark.sigstore.json").read_bytes()


def _digest(bundle: bytes) -> str:
    return sha256(bundle).hexdigest()
