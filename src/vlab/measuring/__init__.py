"""Measure a deployed artifact on its board; docs/measuring.md states every rule.

    inputs, labels = load_dataset(Path("digits-test.npz"))
    reference = load_reference(Path("reference.npz"))       # the lab wrote reference_outputs(...) there
    measurement, environment = measure(directory, manifest, target, Plan.named("smoke"), inputs, labels, reference,
                                       emulated=True, work=Path("work"), plugin_cache=Path("plugins"))
    measurement.latency.p90_ns, measurement.quality_reasons

`passes` orders the parts: `running` starts the program, `counting` counts its instructions under an emulator, `machine` looks
at the host, `quality` judges. `profiling` asks the same program, in other runs, where an inference spends its time. `answering`
is for the lab, not for the board.
"""

from vlab.datasets import Reference, load_dataset, load_reference
from vlab.measuring.answering import random_inputs, reference_outputs
from vlab.measuring.passes import measure
from vlab.measuring.profiling import profile

__all__ = ["Reference", "load_dataset", "load_reference", "measure", "profile", "random_inputs", "reference_outputs"]
