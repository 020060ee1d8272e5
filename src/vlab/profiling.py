"""Compile a model and see where its kernels spend their time on a target, without a lab.

found = profile_model(Path("digits.onnx"), targets.load("riscv/rv64gc-linux"), cache=Path("cache"))
max(found.calls, key=lambda call: call.share).call.nodes
"""

import tempfile
from pathlib import Path

from vlab import compiling, measuring
from vlab.datasets import load_dataset
from vlab.records import CompileOptions, KernelProfile
from vlab.targets import Target

_DATASET = "inputs.npz"


def profile_model(
    model: Path,
    target: Target,
    *,
    cache: Path,
    dataset: Path | None = None,
    options: CompileOptions | None = None,
) -> KernelProfile:
    """Profile a model's artifact on this machine, natively or under the target's emulator.

    Args:
        model: ONNX or TFLite file.
        target: what to compile for.
        cache: directory; its `compile` holds artifacts, its `plugin` what counts instructions under an emulator.
        dataset: its first row is inferred; random inputs without it.
        options: what the requester chose about compiling.

    Raises:
        VlabError: as compiling, reading the data set, or the profile itself says.
    """
    options = options or CompileOptions()
    compiled = compiling.compile_model(model, target, cache=cache / "compile", options=options, probe_inputs=dataset)
    with tempfile.TemporaryDirectory(prefix="vlab-profile-") as directory:
        work = Path(directory)
        if dataset is None:
            dataset = work / _DATASET
            dataset.write_bytes(measuring.random_inputs(model, compiled.manifest.model.format, options.shapes))
        inputs, _ = load_dataset(dataset)
        return measuring.profile(
            compiled.directory, compiled.manifest, target, inputs, work=work, plugin_cache=cache / "plugin"
        )
