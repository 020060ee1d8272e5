"""Wrong input: one clear error that says what was got and what to do, the right exit code, and nothing half-done."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.artifacts import DIGITS
from tests.integration.lab.conftest import LabUnderTest


def model_of(node: onnx.NodeProto, shape: list[int | str], path: Path) -> Path:
    """A model of one node on one float input `x`."""
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def refusal(lab: LabUnderTest, *args: str | Path, code: int = 1) -> str:
    """What the command says when it refuses; it must be one message without a traceback."""
    done = lab.vlab("benchmark", *args, check=False)
    assert code == done.returncode, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def requests(lab: LabUnderTest) -> list[str]:
    """The requests that the lab knew before."""
    return [run["request_id"] for run in lab.json("runs")]


def test_not_a_model(lab: LabUnderTest, requests: list[str], tmp_path: Path) -> None:
    """A text file with the right name is not a model; nothing is started."""
    path = tmp_path / "model.onnx"
    path.write_text("hello, this is no model at all\n")
    said = refusal(lab, path, "--target", "host/x86_64")

    assert "model.onnx" in said
    assert requests == [run["request_id"] for run in lab.json("runs")]


def test_truncated_model(lab: LabUnderTest, requests: list[str], tmp_path: Path) -> None:
    """A model cut in the middle is refused before anything is started."""
    path = tmp_path / "cut.onnx"
    path.write_bytes(DIGITS.read_bytes()[:-2000])
    said = refusal(lab, path, "--target", "host/x86_64")

    assert "cut.onnx" in said
    assert requests == [run["request_id"] for run in lab.json("runs")]


def test_missing_model(lab: LabUnderTest) -> None:
    """A path that leads nowhere is named."""
    assert "nowhere.onnx" in refusal(lab, "nowhere.onnx", "--target", "host/x86_64")


def test_unknown_target_lists_the_known_ones(lab: LabUnderTest) -> None:
    """The message carries the choice."""
    said = refusal(lab, DIGITS, "--target", "riscv/rv128")

    assert "riscv/rv128" in said
    assert "riscv/rv64gc-linux" in said


def test_operator_that_tvm_lacks_names_node_and_operator(lab: LabUnderTest, tmp_path: Path) -> None:
    """The researcher learns which node stands in the way."""
    path = model_of(helper.make_node("Bernoulli", ["x"], ["y"], name="my_draw"), [1, 4], tmp_path / "draw.onnx")
    said = refusal(lab, path, "--target", "host/x86_64", "--plan", "smoke", code=5)

    assert "Bernoulli" in said
    assert "my_draw" in said


def test_free_dimensions_say_how_to_fix_them(lab: LabUnderTest, tmp_path: Path) -> None:
    """A free dimension that is not the batch needs a shape, and with it the model runs."""
    path = model_of(helper.make_node("Relu", ["x"], ["y"]), [1, "length"], tmp_path / "free.onnx")
    said = refusal(lab, path, "--target", "host/x86_64", "--plan", "smoke")
    done = lab.vlab(
        "benchmark",
        path,
        "--target",
        "host/x86_64",
        "--plan",
        "smoke",
        "--shape",
        "x=1,16",
        "--out",
        tmp_path / "out",
        check=False,
    )

    assert "--shape x=" in said
    assert 0 == done.returncode, done.stderr


def test_data_set_of_another_shape(lab: LabUnderTest, tmp_path: Path) -> None:
    """Inputs that the model cannot take are refused with both shapes."""
    np.savez(tmp_path / "wrong.npz", x=np.zeros((4, 3, 5), np.float32), y=np.zeros(4, np.int64))
    said = refusal(lab, DIGITS, "--dataset", tmp_path / "wrong.npz", "--target", "host/x86_64", "--plan", "smoke")

    assert "3, 5" in said


def test_pickled_data_set_is_not_loaded(lab: LabUnderTest, tmp_path: Path) -> None:
    """An npz that needs pickle is code from outside."""
    np.savez(tmp_path / "pickled.npz", x=np.array([{"a": 1}], dtype=object))

    refusal(lab, DIGITS, "--dataset", tmp_path / "pickled.npz", "--target", "host/x86_64")


def test_no_lab(tmp_path: Path) -> None:
    """Without a lab the command says how to start one."""
    done = subprocess.run(
        [sys.executable, "-m", "vlab", "runs"],
        env={**os.environ, "VLAB_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 1 == done.returncode
    assert "vlab up" in done.stderr


def test_dead_lab(lab: LabUnderTest, tmp_path: Path) -> None:
    """A profile whose services do not answer gives exit code 3 and the address."""
    profile = json.loads((lab.home / "lab.json").read_text())
    (tmp_path / "lab.json").write_text(json.dumps(profile | {"prefect_api_url": "http://127.0.0.1:9/api"}))
    done = lab.vlab("runs", "--profile", tmp_path / "lab.json", check=False)

    assert 3 == done.returncode
    assert "127.0.0.1:9" in done.stderr


def test_port_in_use(lab: LabUnderTest, tmp_path: Path) -> None:
    """A second lab on the first one's ports is refused with the port and the setting that moves it."""
    second = LabUnderTest(tmp_path / "second", lab.port_base)
    done = second.vlab("up", check=False)

    assert 0 != done.returncode
    assert str(lab.port_base) in done.stderr
    assert "VLAB_PORT_BASE" in done.stderr
    assert not (tmp_path / "second" / "lab.json").exists()


def test_evidence_that_is_not_evidence(lab: LabUnderTest, tmp_path: Path) -> None:
    """Garbage, an empty file and a missing file are refused, never crash."""
    for name, data in {"garbage": b"\x00\xff" * 99, "empty": b"", "deep": b"[" * 100_000, "other": b"{}"}.items():
        (tmp_path / name).write_bytes(data)
        assert "REFUSED: FORMAT" in lab.vlab("verify", tmp_path / name, check=False).stdout
    assert 1 == lab.vlab("verify", tmp_path / "nothing", check=False).returncode
