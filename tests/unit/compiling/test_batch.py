"""Several targets at once, the same bytes again, and the command line for both."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from onnx import helper

from tests.boards import ready
from tests.miscompiling import give_wrong_kernel
from tests.unit.compiling.conftest import Save, onnx_model, small_cnn, tensor
from vlab import targets
from vlab.cli import vlab
from vlab.compiling import compile_all
from vlab.errors import MissingToolError, RefusedError
from vlab.targets import Target

FAMILIES = ("host/x86_64", "riscv/rv64gcv-linux", "arm/aarch64-linux", "arm/cortex-m4")


def with_compiler(target: Target, program: str) -> Target:
    """The target with another C compiler."""
    return target.model_copy(update={"compiler": target.compiler.model_copy(update={"program": program})})


def test_another_environment_gives_the_same_bytes(save: Save, cache: Path, tmp_path: Path):
    """For a Linux target of each family and a firmware: other directory, process, hash seed, zone, locale, home, umask."""
    outcomes = compile_all(
        save(small_cnn()), [ready(name) for name in FAMILIES], cache=cache, out=tmp_path / "out", check=True, jobs=2
    )

    assert [(name, ()) for name in FAMILIES] == [(outcome.target, outcome.differing) for outcome in outcomes]
    for outcome in outcomes:
        assert outcome.directory is not None
        for path in outcome.directory.iterdir():
            for trace in (str(tmp_path), str(cache), "another home", "vlab-again-"):
                assert trace.encode() not in path.read_bytes(), path


def test_no_target_takes_the_cpu_of_the_machine_that_compiles():
    """Each names its CPU for LLVM and for the C compiler."""
    named = {name: (target.lower.mcpu, *target.compiler.flags) for name, target in targets.known().items()}

    assert [] == [name for name, words in named.items() if any("native" in word for word in words)]


def test_one_target_that_fails_does_not_stop_the_others(save: Save, cache: Path, tmp_path: Path):
    """Each has its own outcome, in the order they were asked for."""
    host = ready("host/x86_64")
    path, said = save(small_cnn()), []
    outcomes = compile_all(path, [with_compiler(host, "no-such-cc"), host], cache=cache, out=tmp_path, on_done=said.append)

    assert [False, True] == [outcome.good for outcome in outcomes]
    assert isinstance(outcomes[0].error, MissingToolError)
    assert outcomes[1].directory == tmp_path / "host-x86_64"
    assert set(map(id, outcomes)) == set(map(id, said))


def test_a_compiler_that_is_not_reproducible_is_found(save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A C compiler that writes random bytes into what it links is told by the file that differs."""
    host = ready("host/x86_64")
    program = tmp_path / "bin" / "random-cc"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n{host.compiler.find()} "$@" || exit\n[ ! -f model ] || head -c 8 /dev/urandom >> model\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    (outcome,) = compile_all(save(small_cnn()), [with_compiler(host, "random-cc")], cache=tmp_path / "cache", check=True)

    assert ("manifest.json", "model") == outcome.differing
    assert not outcome.good


def test_an_exported_artifact_that_was_changed_is_found(save: Save, cache: Path, tmp_path: Path):
    """What was exported is compared and not replaced; what is no artifact is never replaced."""
    host, path = ready("host/x86_64"), save(small_cnn())
    (first,) = compile_all(path, [host], cache=cache, out=tmp_path / "out")
    assert first.directory is not None
    with (first.directory / "model.c").open("a") as stream:
        stream.write("/* changed */\n")
    (checked,) = compile_all(path, [host], cache=cache, out=tmp_path / "out", check=True)

    assert ("model.c",) == checked.differing
    assert (first.directory / "model.c").read_text().endswith("/* changed */\n")
    (again,) = compile_all(path, [host], cache=cache, out=tmp_path / "out")
    assert not (tmp_path / "out" / "host-x86_64" / "model.c").read_text().endswith("/* changed */\n")
    shutil.rmtree(tmp_path / "out" / "host-x86_64")
    (tmp_path / "out" / "host-x86_64").mkdir()
    (refused,) = compile_all(path, [host], cache=cache, out=tmp_path / "out")
    assert isinstance(refused.error, RefusedError)
    assert "is no artifact" in str(refused.error)
    assert again.good


def run(cache: Path, monkeypatch: pytest.MonkeyPatch, *words: Any) -> Result:
    """The command, with the cache of this run."""
    monkeypatch.setenv("VLAB_HOME", str(cache.parent))
    (cache.parent / "cache").mkdir(exist_ok=True)
    if not (cache.parent / "cache" / "compile").exists():
        (cache.parent / "cache" / "compile").symlink_to(cache)
    return CliRunner().invoke(vlab, ["compile", *map(str, words)], env={"COLUMNS": "80"})


def test_the_command_prints_a_table_of_80_columns(save: Save, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """One line a target, and where the artifact is; the same figures as JSON."""
    ready("host/x86_64")
    path = save(small_cnn())
    done = run(cache, monkeypatch, path, "-t", "host/x86_64", "--out", tmp_path / "out")

    assert 0 == done.exit_code
    assert 80 >= max(map(len, done.stdout.split("host/x86_64:")[0].splitlines()))
    assert "deviation" in done.stdout
    assert f"host/x86_64: {tmp_path}/out/host-x86_64" in done.stdout.replace("\n", "")
    found = json.loads(run(cache, monkeypatch, path, "-t", "host/x86_64", "--json").stdout)["host/x86_64"]
    assert (True, None, True) == (found["good"], found["error"], found["cached"])
    assert "vlab-artifact/v1" == found["manifest"]["format"]


def test_stack_traces_are_kept_with_debug_and_shown_never(
    save: Save, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """A failure is one line and exit code 1; --debug says in which folder the rest is."""
    ready("host/x86_64")
    give_wrong_kernel("relax.sin", "te.sin(x(*at)) + tirx.const(0.01, 'float32')", tmp_path / "wrong", monkeypatch)
    node = helper.make_node("Sin", ["x"], ["y"], name="wave")
    path = save(onnx_model([node], [tensor("x", [1, 8])], [tensor("y", [1, 8])]))
    plain = run(cache, monkeypatch, path, "-t", "host/x86_64")
    debug = run(cache, monkeypatch, path, "-t", "host/x86_64", "--debug")

    assert [1, 1] == [plain.exit_code, debug.exit_code]
    assert "--debug" in plain.stderr
    for said in (plain, debug):
        assert "differs from onnxruntime" in said.stderr
        assert "Traceback" not in said.output
        assert ".cc:" not in said.output
    kept = Path(debug.stderr.split("intermediate files: ")[1].strip())
    assert {"worker.log", "kernels.o", "model", "outputs.bin"} <= {entry.name for entry in kept.iterdir()}
    shutil.rmtree(kept.parent)
