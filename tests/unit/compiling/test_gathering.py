"""Weights in other files: put into the model, or refused."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.unit.compiling.conftest import onnx_model, small_cnn, tensor
from vlab.compiling import gather, inspect_model
from vlab.errors import ModelError


def external(weight: Any, location: str, *, offset: int | None = None, length: int | None = None) -> Any:
    """The weight as one kept in another file."""
    kept = TensorProto()
    kept.CopyFrom(weight)
    kept.ClearField("raw_data")
    kept.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            entry = kept.external_data.add()
            entry.key, entry.value = key, str(value)
    return kept


def scaling(location: str = "w.bin", **where: int) -> Any:
    """X * w, with w of 8 bytes in another file."""
    model = onnx_model([helper.make_node("Mul", ["x", "w"], ["y"])], [tensor("x", [1, 2])], [tensor("y", [1, 2])])
    model.graph.initializer.append(external(numpy_helper.from_array(np.float32([2, 3]), "w"), location, **where))
    return model


def written(folder: Path, model: Any) -> Path:
    """The model's file, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_model_in_one_file_is_taken_as_it_is(tmp_path: Path):
    """Nothing is copied and nothing said."""
    path = written(tmp_path, small_cnn())
    gathered = gather(path, tmp_path)

    assert (path, "") == (gathered.path, gathered.notice)


def test_weights_from_other_files_become_part_of_the_model(tmp_path: Path):
    """The copy is what ONNX itself makes of it, its digest covers the weights, and a notice says what was done."""
    path = tmp_path / "in" / "kws.onnx"
    path.parent.mkdir()
    onnx.save(small_cnn(), path, save_as_external_data=True, location="kws.data", size_threshold=0)
    (tmp_path / "out").mkdir()
    gathered = gather(path, tmp_path / "out")

    assert small_cnn() == onnx.load(gathered.path)
    assert "bytes of weights from kws.data were put into the model" in gathered.notice
    first = inspect_model(gathered.path).sha256
    changed = bytearray((path.parent / "kws.data").read_bytes())
    changed[5] ^= 1
    (path.parent / "kws.data").write_bytes(changed)
    assert first != inspect_model(gather(path, tmp_path / "out").path).sha256


def test_weights_within_nodes_and_inner_graphs_are_taken_too(tmp_path: Path):
    """A constant of a node in a branch is a weight like any other, with offset and length."""
    model = scaling(offset=4, length=8)
    constant = helper.make_node("Constant", [], ["c"])
    attribute = constant.attribute.add()
    attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
    attribute.t.CopyFrom(external(numpy_helper.from_array(np.float32([5]), "c"), "sub/c.bin"))
    branch = helper.make_graph([constant], "branch", [], [tensor("c", [1])])
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))
    path = written(tmp_path / "in", model)
    (path.parent / "w.bin").write_bytes(b"skip" + np.float32([2, 3]).tobytes())
    (path.parent / "sub").mkdir()
    (path.parent / "sub" / "c.bin").write_bytes(np.float32([5]).tobytes())
    found = onnx.load_model_from_string(gather(path, tmp_path).path.read_bytes())

    assert [2, 3] == numpy_helper.to_array(found.graph.initializer[0]).tolist()
    for branch in found.graph.node[1].attribute:
        assert [5] == numpy_helper.to_array(branch.g.node[0].attribute[0].t).tolist()


def test_the_same_files_give_the_same_bytes(tmp_path: Path):
    """Wherever the model lies."""
    digests = set()
    for name in ("a", "b"):
        path = written(tmp_path / name, scaling())
        (path.parent / "w.bin").write_bytes(bytes(8))
        (tmp_path / f"out-{name}").mkdir()
        digests.add(sha256(gather(path, tmp_path / f"out-{name}").path.read_bytes()).hexdigest())

    assert 1 == len(digests)


def link(folder: Path) -> None:
    """w.bin as a symbolic link to a file outside."""
    (folder.parent / "secret").write_bytes(bytes(8))
    (folder / "w.bin").symlink_to(folder.parent / "secret")


def linked_folder(folder: Path) -> None:
    """Sub as a symbolic link to the folder above."""
    (folder.parent / "w.bin").write_bytes(bytes(8))
    (folder / "sub").symlink_to(folder.parent)


def sparse(folder: Path) -> None:
    """w.bin as a file of a terabyte that holds nothing."""
    with (folder / "w.bin").open("wb") as stream:
        stream.truncate(1 << 40)


@pytest.mark.parametrize(
    ("model", "prepare", "told"),
    [
        (scaling("../secret"), None, "below the model's folder"),
        (scaling("sub/../../secret"), None, "below the model's folder"),
        (scaling("/etc/passwd"), None, "below the model's folder"),
        (scaling("..\\secret"), None, "below the model's folder"),
        (scaling(""), None, "below the model's folder"),
        (scaling("missing.bin"), None, r"cannot be opened \(No such file"),
        (scaling(), link, "goes through a symbolic link"),
        (scaling("sub/w.bin"), linked_folder, "goes through a symbolic link"),
        (scaling(), lambda folder: os.mkfifo(folder / "w.bin"), "no regular file"),
        (scaling(), lambda folder: (folder / "w.bin").mkdir(), "no regular file"),
        (scaling(), lambda folder: (folder / "w.bin").write_bytes(bytes(7)), "in bytes 0 to 8 of w.bin, which has 7"),
        (scaling(offset=1 << 62), sparse, "which has 1099511627776"),
        (scaling(length=1 << 40), sparse, "takes 8 bytes, and 1099511627776 from byte 0"),
        (scaling(offset=-8), sparse, "from byte -8"),
        (scaling("m.onnx", offset=0, length=9), None, "takes 8 bytes, and 9"),
    ],
)
def test_whatever_leads_out_of_the_folder_is_refused(
    tmp_path: Path, model: Any, prepare: Callable[[Path], Any] | None, told: str
):
    """Other folders, links, pipes, sparse files and ranges beyond the end are refused before a byte of them is read."""
    path = written(tmp_path / "model", model)
    if prepare:
        prepare(path.parent)

    with pytest.raises(ModelError, match=told):
        gather(path, tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device file needs root")
def test_a_device_file_is_refused(tmp_path: Path):
    """A device that gives bytes for ever is no weight."""
    path = written(tmp_path / "model", scaling())
    try:
        os.mknod(path.parent / "w.bin", 0o020666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("making device files is not allowed here")

    with pytest.raises(ModelError, match=r"no regular file|cannot be opened"):
        gather(path, tmp_path)


def test_weights_that_share_one_file_do_not_add_up_without_end(tmp_path: Path):
    """A small file named a thousand times is no larger than a model can be, and refused before it is read."""
    model = onnx_model([helper.make_node("Mul", ["x", "w0"], ["y"])], [tensor("x", [1, 2])], [tensor("y", [1, 2])])
    for index in range(5):
        weight = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[1 << 27])
        model.graph.initializer.append(external(weight, "w.bin"))
    path = written(tmp_path / "model", model)
    with (path.parent / "w.bin").open("wb") as stream:
        stream.truncate(1 << 29)

    with pytest.raises(ModelError, match=r"brings the model to more than \d+ bytes, expected at most 2147483647"):
        gather(path, tmp_path)


def test_too_many_files_are_refused(tmp_path: Path):
    """A model keeps its weights in thousands of files at most."""
    model = onnx_model([helper.make_node("Mul", ["x", "w0"], ["y"])], [tensor("x", [1, 2])], [tensor("y", [1, 2])])
    path = written(tmp_path / "model", model)
    for index in range(4097):
        weight = TensorProto(name=f"w{index}", data_type=TensorProto.UINT8, dims=[1])
        model.graph.initializer.append(external(weight, f"w{index}"))
        (path.parent / f"w{index}").write_bytes(b"1")
    written(tmp_path / "model", model)

    with pytest.raises(ModelError, match="in more than 4096 files"):
        gather(path, tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_model_is_refused_or_taken(tmp_path: Path, place: int, byte: int):
    """Nothing but a ModelError comes out of any change of one byte, and nothing outside the folder is read."""
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "w.bin").write_bytes(bytes(8))
    content = bytearray(scaling(offset=0, length=8).SerializeToString())
    content[place % len(content)] = byte
    (folder / "m.onnx").write_bytes(content)
    try:
        gather(folder / "m.onnx", tmp_path)
    except ModelError:
        return
