"""Sign what was compiled and what was measured."""

from pathlib import Path

from prefect import get_run_logger, runtime, task

from blocks.signer import Signer
from blocks.tracking import Tracking
from tasks.compile import Compiled, journal_of
from tasks.retrying import transient
from vlab import provenance, tracking, verifying
from vlab.journal import Journal
from vlab.records import ArtifactManifest, AssetRef, Request, Result


@task(task_run_name="sign compile {compiled.target}", retries=2, retry_delay_seconds=2, retry_condition_fn=transient)
def sign_compile(request: Request, compiled: Compiled) -> AssetRef:
    """Sign the compile statement with the lab's identity, once for a request and target."""
    journal = journal_of(request, compiled.target)
    bundle = journal.read("compile.sigstore.json")
    if bundle is None:
        statement = provenance.compile_statement(
            ArtifactManifest.from_json(journal.path("manifest.json").read_bytes()),
            compiled.manifest_sha256,
            started_on=compiled.started_on,
            finished_on=compiled.finished_on,
            invocation_id=f"prefect:flow-run/{runtime.flow_run.id}",
        )
        bundle = Signer.load("lab").get_signer().sign(statement)
        journal.write("compile.sigstore.json", bundle)
        get_run_logger().info("%s: compile statement signed", compiled.target)
    return tracking.store_put(bundle, "compile.sigstore.json", url=Tracking.load("lab").url)


@task(task_run_name="sign benchmark", retries=2, retry_delay_seconds=2, retry_condition_fn=transient)
def sign_benchmark(spool: Path, signer: str) -> Path:
    """Sign the benchmark statement of a spooled result with the worker's identity; returns the bundle's path."""
    journal = Journal(spool)
    if journal.read("benchmark.sigstore.json") is None:
        data = journal.path("result.json").read_bytes()
        result = Result.from_json(data)
        statement = provenance.benchmark_statement(result, data, verifying.samples_root(result))
        journal.write("benchmark.sigstore.json", Signer.load(signer).get_signer().sign(statement))
        get_run_logger().info("benchmark statement signed")
    return journal.path("benchmark.sigstore.json")
