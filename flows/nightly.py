"""The nightly sweep: the same benchmark for several models, one after the other."""

from typing import Literal

from prefect import State, flow, get_run_logger
from prefect.states import Completed, Failed
from pydantic import BaseModel, Field

from flows.benchmark import TargetChoice, benchmark
from vlab.settings import checkout


class Entry(BaseModel):
    """One model of a sweep."""

    model: str = Field(description="model file; a relative path is taken from the checkout")
    dataset: str = Field(default="", description="npz file with inputs x and labels y, likewise")


DIGITS = Entry(model="examples/digits/digits.onnx", dataset="examples/digits/digits-test.npz")


@flow(name="nightly")
def nightly(
    entries: list[Entry] = [DIGITS],  # noqa: B006  # never changed; shown in the form
    targets: list[TargetChoice] = ["riscv/rv64gc-linux", "riscv/rv64gcv-linux", "arm/aarch64-linux"],  # noqa: B006
    plan: Literal["smoke", "standard"] = "standard",
) -> State[None]:
    """Benchmark every model on every target; one that fails does not stop the next.

    Args:
        entries: the models.
        targets: kinds of board to measure on.
        plan: `smoke` supports the 90th percentile, `standard` the 99th.
    """
    failed = []
    for entry in entries:
        dataset = str(checkout() / entry.dataset) if entry.dataset else ""
        state = benchmark(str(checkout() / entry.model), targets, dataset, plan, return_state=True)
        if not state.is_completed():
            failed.append(f"{entry.model}: {state.message}")
            get_run_logger().error("%s", failed[-1])
    if failed:
        return Failed(message="; ".join(failed))
    return Completed(message=f"{len(entries)} models on {len(targets)} targets")
