"""Valid records to start from; a test that needs other values copies them with an update."""

from hashlib import sha256

from vlab.records import (
    ArtifactManifest,
    BoardInfo,
    ChainPin,
    CompileOptions,
    Environment,
    FileRef,
    Identity,
    LabProfile,
    Latency,
    Measurement,
    ModelFormat,
    ModelRef,
    Numerics,
    Percentile,
    Plan,
    Quality,
    Result,
    TensorSpec,
    Toolchain,
    Warmup,
)


def digest(text: str) -> str:
    """A digest to stand for some file."""
    return sha256(text.encode()).hexdigest()


NUMERICS = Numerics(
    reference="onnxruntime 1.22.0", inputs=16, max_abs_err=1e-7, tolerance=1e-5, rmse=3.2e-8, cosine=1.0, top1_agreement=1.0
)
MODEL = ModelRef(name="resnet", sha256=digest("model"), format=ModelFormat.onnx, size_bytes=300_000)
MANIFEST = ArtifactManifest(
    model=MODEL,
    target="riscv/rv64gc-linux",
    target_sha256=digest("target"),
    options=CompileOptions(shapes={"input": (1, 3, 32, 32)}),
    toolchain=Toolchain(
        tvm="0.27.0+local", tvm_ffi="0.1.14", llvm="17.0.6", cc="riscv64-linux-gnu-gcc 12.2.0", compiling_sha256=digest("stage")
    ),
    executable="model",
    files=(
        FileRef(name="model", sha256=digest("executable"), size_bytes=900_000),
        FileRef(name="weights.bin", sha256=digest("weights"), size_bytes=310_000),
    ),
    inputs=(TensorSpec(name="input", shape=(1, 3, 32, 32), dtype="float32"),),
    outputs=(TensorSpec(name="output", shape=(1, 10), dtype="float32"),),
    kernels=(),
    arena_bytes=65536,
    workspace_bytes=0,
    weights_bytes=310_000,
    artifact_bytes=900_000,
    numerics=NUMERICS,
)
MANIFEST_SHA256 = MANIFEST.digest()
PLAN = Plan.named("smoke")
FEW = Plan(
    name="smoke",
    warmup_min_count=1,
    warmup_min_ns=0,
    warmup_max_ns=1,
    samples_min_count=3,
    samples_min_ns=0,
    samples_max_count=3,
)
"""A plan of a handful of inferences, for boards whose emulators are slow."""
RESULT = Result(
    request_id="request-1",
    nonce=digest("nonce"),
    board=BoardInfo(name="virt-0", partner="partner-a", target="riscv/rv64gc-linux", emulated=True),
    environment=Environment(machine="host", os="Linux", cpu="rv64", emulator="qemu 7.2", load_avg_start=0.1, load_avg_end=0.25),
    model=MODEL,
    manifest=MANIFEST,
    manifest_sha256=MANIFEST_SHA256,
    compile_bundle_sha256=digest("compile bundle"),
    dataset=FileRef(name="cifar10-test-200", sha256=digest("data set"), size_bytes=614_400),
    plan=PLAN,
    plan_sha256=PLAN.digest(),
    measurement=Measurement(
        samples_ns=(1_000_000, 1_100_000, 1_050_000),
        latency=Latency(
            n=3,
            mean_ns=1_050_000.0,
            std_ns=50_000.0,
            mad_ns=50_000.0,
            min_ns=1_000_000,
            max_ns=1_100_000,
            p50_ns=Percentile(
                value=1_050_000, lower=1_000_000, upper=1_100_000, confidence=0.99, n=3, supported=True, needed=3
            ),
            p90_ns=Percentile(value=None, lower=None, upper=None, confidence=0.99, n=3, supported=False, needed=64),
            p99_ns=Percentile(value=None, lower=None, upper=None, confidence=0.99, n=3, supported=False, needed=662),
            outlier_count=0,
        ),
        warmup=Warmup(count=10, duration_ns=20_000_000, stable=True),
        first_inference_ns=2_000_000,
        load_ns=5_000_000,
        clock_resolution_ns=1,
        instructions_per_inference=12_345_678,
        ram_peak_bytes=None,
        ram_peak_reason="emulated",
        accuracy=0.875,
        accuracy_inputs=200,
        numerics=NUMERICS,
        outputs_sha256=digest("outputs"),
        quality=Quality.degraded,
        quality_reasons=("samples_short",),
    ),
    started_on="2026-01-01T00:00:00Z",
    finished_on="2026-01-01T00:00:09Z",
)
PROFILE = LabProfile(
    name="lab",
    trust="embedded",
    trust_config="trust.json",
    lab_identity=Identity(san="spiffe://vlab.local/lab", issuer="http://127.0.0.1:1"),
    worker_identities={},
    ledger_origin="vlab.local/0",
    chain=ChainPin(rpc_url="http://127.0.0.1:1", chain_id=31415, contract="0x" + 40 * "0", code_sha256=64 * "0"),
    prefect_api_url="http://127.0.0.1:1/api",
    tracking_url="http://127.0.0.1:1",
)
