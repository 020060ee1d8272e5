"""Data sets: what is read, what is refused, and the bytes the board gets."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vlab import datasets
from vlab.datasets import Reference, columns, load_dataset, load_reference, read_rows, save_reference, to_npz, write_rows
from vlab.errors import MeasureError
from vlab.records import TensorSpec

IMAGE = TensorSpec(name="image", shape=(1, 1, 2, 2), dtype="float32")
EXTRA = TensorSpec(name="extra", shape=(1, 3), dtype="int64")


def save(path: Path, **arrays: np.ndarray) -> Path:
    """An .npz of these arrays."""
    path.write_bytes(to_npz(arrays))
    return path


def test_rows_and_labels_are_read(tmp_path: Path) -> None:
    """Inputs come as they are, labels as int64."""
    rows = np.arange(12, dtype=np.float32).reshape(3, 1, 2, 2)
    inputs, labels = load_dataset(save(tmp_path / "d.npz", x=rows, y=np.array([1, 2, 3], dtype=np.uint8)))

    assert np.array_equal(rows, inputs)
    assert labels is not None
    assert (np.dtype(np.int64), [1, 2, 3]) == (labels.dtype, labels.tolist())


def test_labels_may_be_absent(tmp_path: Path) -> None:
    """A data set without labels is measured without accuracy."""
    _, labels = load_dataset(save(tmp_path / "d.npz", x=np.zeros((2, 4), np.float32)))

    assert labels is None


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "no inputs"),
        ({"y": np.zeros(3, np.int64)}, "no inputs"),
        ({"x": np.zeros((0, 4), np.float32)}, "at least 1"),
        ({"x": np.float32(1)}, "at least 1"),
        ({"a": np.zeros((2, 1)), "b": np.zeros((3, 1))}, "same number"),
        ({"x": np.zeros((3, 4), np.float32), "y": np.zeros(2, np.int64)}, r"expected whole numbers \[3\]"),
        ({"x": np.zeros((3, 4), np.float32), "y": np.zeros(3, np.float32)}, "float32"),
        ({"x": np.zeros((3, 4), np.float32), "y": np.zeros((3, 10), np.int64)}, r"int64\[3, 10\]"),
    ],
)
def test_unusable_data_sets_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    """The message says what the file holds and what was expected."""
    with pytest.raises(MeasureError, match=said):
        load_dataset(save(tmp_path / "d.npz", **arrays))


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    """Loading an array of objects would execute code, so it is never done."""
    path = tmp_path / "d.npz"
    np.savez(path, x=np.array([print], dtype=object))
    with pytest.raises(MeasureError, match="plain arrays"):
        load_dataset(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 torn", b"\x80\x04N."])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """Anything that is not an .npz gives a clear error."""
    path = tmp_path / "d.npz"
    path.write_bytes(content)
    with pytest.raises(MeasureError, match="plain arrays"):
        load_dataset(path)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    """A changed byte inside a compressed array is found."""
    path = save(tmp_path / "d.npz", x=np.random.default_rng(1).standard_normal((50, 4)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(MeasureError):
        load_dataset(path)


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    """An .npy holds no inputs by name; the message says how to save them."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    (tmp_path / "d.npz").write_bytes(buffer.getvalue())
    with pytest.raises(MeasureError, match=r"numpy\.savez"):
        load_dataset(tmp_path / "d.npz")


def test_the_board_gets_all_inputs_of_a_sample_together(tmp_path: Path) -> None:
    """Samples follow each other; within one stand its inputs in the model's order, little-endian, whatever the file's order."""
    images = np.arange(1200, dtype=">f4").astype(np.float32).reshape(300, 2, 2)
    extras = np.arange(900, dtype=np.int64).reshape(300, 3)
    inputs, _ = load_dataset(save(tmp_path / "d.npz", extra=extras, image=images))
    write_rows(columns(inputs, [IMAGE, EXTRA]), tmp_path / "in.bin")

    expected = b"".join(image.tobytes() + extra.tobytes() for image, extra in zip(images, extras, strict=True))
    assert expected == (tmp_path / "in.bin").read_bytes()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.zeros((3, 2, 2)), "float64"),
        (np.zeros((3, 5), np.float32), r"float32\[5\], input image takes float32\[1, 1, 2, 2\]"),
        (np.zeros(3, np.float32), "image"),
    ],
)
def test_rows_that_do_not_fit_the_model_are_refused(rows: np.ndarray, said: str) -> None:
    """Type and size must be those of the input; nothing is converted silently."""
    with pytest.raises(MeasureError, match=said):
        columns(rows, [IMAGE])


def test_missing_inputs_are_named() -> None:
    """A model with two inputs does not run on rows of one."""
    with pytest.raises(MeasureError, match=r"\['image', 'extra'\]"):
        columns(np.zeros((3, 2, 2), np.float32), [IMAGE, EXTRA])


def test_outputs_are_taken_apart(tmp_path: Path) -> None:
    """Raw outputs become one array for each output of the model; a torn file is refused."""
    raw = b"".join(np.float32([i, i + 0.5]).tobytes() + np.int64([i] * 3).tobytes() for i in range(4))
    (tmp_path / "out.bin").write_bytes(raw)
    specs = [TensorSpec(name="s", shape=(1, 2), dtype="float32"), EXTRA]
    scores, extras = read_rows(tmp_path / "out.bin", specs, 4)

    assert [[0, 0.5], [1, 1.5], [2, 2.5], [3, 3.5]] == scores.reshape(4, 2).tolist()
    assert [[3, 3, 3]] == extras[3].tolist()
    with pytest.raises(MeasureError, match="expected 5 samples of 32"):
        read_rows(tmp_path / "out.bin", specs, 5)


def test_reference_outputs_come_back_as_saved(tmp_path: Path) -> None:
    """Law: `load_reference` of `save_reference` is the same, and the same reference has the same bytes."""
    reference = Reference("runtime 1", (np.ones((2, 1, 3), np.float32), np.zeros((2, 1), np.int64), np.eye(2)))
    (tmp_path / "r.npz").write_bytes(save_reference(reference))
    loaded = load_reference(tmp_path / "r.npz")

    assert "runtime 1" == loaded.runtime
    assert all(np.array_equal(a, b) for a, b in zip(reference.outputs, loaded.outputs, strict=True))
    assert save_reference(reference) == save_reference(loaded)


@pytest.mark.parametrize("arrays", [{}, {"x": np.zeros(3)}, {"y": np.zeros(3), "y2": np.zeros(3), "runtime": np.array("r")}])
def test_other_archives_are_no_reference(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A data set handed in as reference is refused."""
    with pytest.raises(MeasureError, match="reference outputs"):
        load_reference(save(tmp_path / "r.npz", **arrays))


def test_an_archive_of_texts_is_refused(tmp_path: Path) -> None:
    """Members that are no arrays are refused."""
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", "not an array")
    with pytest.raises(MeasureError, match="no array"):
        load_dataset(tmp_path / "d.npz")


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size after unpacking is looked at before anything is unpacked."""
    monkeypatch.setattr(datasets, "MAX_BYTES", 1000)
    with pytest.raises(MeasureError, match="unpacks to"):
        load_dataset(save(tmp_path / "d.npz", x=np.zeros((1000, 4))))
