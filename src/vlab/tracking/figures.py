"""A result in MLflow's terms: metrics, params and tags; a kernel profile as a table."""

import csv
import io

from vlab.records import KernelProfile, Result


def metrics_of(result: Result) -> dict[str, float]:
    """Every figure of a result under its field name, units included; a figure that is null is left out."""
    measurement, manifest = result.measurement, result.manifest
    latency = measurement.latency.model_dump()
    figures: dict[str, float | None] = {}
    for name in ("p50_ns", "p90_ns", "p99_ns"):
        percentile, short = latency.pop(name), name.removesuffix("_ns")
        figures |= {
            f"latency_{short}_ns": percentile["value"],
            f"latency_{short}_lower_ns": percentile["lower"],
            f"latency_{short}_upper_ns": percentile["upper"],
        }
    figures |= {f"latency_{name}": value for name, value in latency.items()}
    for name in (
        "first_inference_ns",
        "load_ns",
        "instructions_per_inference",
        "ram_peak_bytes",
        "accuracy",
        "accuracy_inputs",
    ):
        figures[name] = getattr(measurement, name)
    figures |= {"warmup_count": measurement.warmup.count, "warmup_duration_ns": measurement.warmup.duration_ns}
    for name in ("arena_bytes", "workspace_bytes", "weights_bytes", "artifact_bytes"):
        figures[name] = getattr(manifest, name)
    if measurement.numerics is not None:
        numerics = measurement.numerics.model_dump(exclude={"reference", "outputs", "cases"})
        figures |= {f"numerics_{name}": value for name, value in numerics.items()}
    return {name: float(value) for name, value in figures.items() if value is not None}


def params_of(result: Result) -> dict[str, str]:
    """What the measurement depended on, for the table of runs."""
    return {
        "model": result.model.name,
        "target": result.board.target,
        "board": result.board.name,
        "partner": result.board.partner,
        "plan": result.plan.name,
        "tvm": result.manifest.toolchain.tvm,
        "machine": result.environment.machine,
        "cpu": result.environment.cpu,
        "emulator": result.environment.emulator,
    }


def tags_of(result: Result) -> dict[str, str]:
    """Who, where, the verdict and all digests, as tags that runs are found by."""
    return {
        "vlab.kind": "board",
        "vlab.request_id": result.request_id,
        "vlab.board": result.board.name,
        "vlab.partner": result.board.partner,
        "vlab.target": result.board.target,
        "vlab.emulated": str(result.board.emulated).lower(),
        "vlab.quality": result.measurement.quality.value,
        "vlab.quality_reasons": " ".join(result.measurement.quality_reasons),
        "vlab.model_sha256": result.model.sha256,
        "vlab.manifest_sha256": result.manifest_sha256,
        "vlab.compile_bundle_sha256": result.compile_bundle_sha256,
        "vlab.dataset_sha256": result.dataset.sha256,
        "vlab.plan_sha256": result.plan_sha256,
        "vlab.outputs_sha256": result.measurement.outputs_sha256,
        "vlab.result_sha256": result.digest(),
    }


def kernel_profile_csv(profile: KernelProfile) -> str:
    """One row a kernel call, in the order of execution, with the fields' own names; what is null is an empty cell."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    names = ("share", "median_ns", "min_ns", "instructions")
    counts = ("macs", "weight_bytes", "input_bytes", "output_bytes")
    table.writerow(["call", "kernel", "nodes", *names, *counts])
    for number, one in enumerate(profile.calls, 1):
        figures = [getattr(one, name) for name in names] + [getattr(one.call, name) for name in counts]
        table.writerow([number, one.call.kernel, " ".join(one.call.nodes), *figures])
    return text.getvalue()
