"""Artifacts are let in whole and as named; hostile archives leave nothing behind."""

import io
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.samples import MANIFEST, MODEL
from vlab import targets
from vlab.deploying import MAX_FILES, expect_fit, unpack
from vlab.errors import DeployError, DigestMismatchError, EvidenceError, RefusedError
from vlab.records import FileRef

FILES = {"model": b"\x7fELF" + b"program" * 1000, "model.c": b"int main(void);\n"}
ZERO = "0" * 64


def make_manifest(files: dict[str, bytes], executable: str = "model") -> bytes:
    """A manifest of these files."""
    refs = tuple(
        FileRef(name=name, sha256=sha256(content).hexdigest(), size_bytes=len(content))
        for name, content in sorted(files.items())
    )
    return MANIFEST.model_copy(update={"executable": executable, "files": refs}).to_json()


def make_archive(members: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of exactly these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    """One member of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info, content


def honest(files: dict[str, bytes]) -> tuple[list[tuple[tarfile.TarInfo, bytes]], str]:
    """Members of an honest archive and the digest of its manifest."""
    manifest = make_manifest(files)
    members = [member("manifest.json", manifest), *(member(name, content) for name, content in files.items())]
    return members, sha256(manifest).hexdigest()


def test_an_honest_archive_is_unpacked_byte_for_byte(tmp_path: Path) -> None:
    """The directory holds the manifest and its files, and only the executable may be executed."""
    members, digest = honest(FILES)
    manifest = unpack(make_archive(members), digest, tmp_path / "in" / "artifact")

    got = {path.name: path.read_bytes() for path in (tmp_path / "in" / "artifact").iterdir()}
    assert {"manifest.json": manifest.to_json(), **FILES} == got
    assert 0o755 == (tmp_path / "in" / "artifact" / "model").stat().st_mode & 0o777
    assert 0o644 == (tmp_path / "in" / "artifact" / "model.c").stat().st_mode & 0o777
    assert ["artifact"] == [path.name for path in (tmp_path / "in").iterdir()]


def test_unpacking_again_replaces_the_whole_directory(tmp_path: Path) -> None:
    """A second artifact in the same place leaves no file of the first."""
    for files in (FILES, {"model": b"other"}):
        members, digest = honest(files)
        unpack(make_archive(members), digest, tmp_path / "artifact")

    assert ["manifest.json", "model"] == sorted(path.name for path in (tmp_path / "artifact").iterdir())


Attack = Callable[[list[tuple[tarfile.TarInfo, bytes]]], list[tuple[tarfile.TarInfo, bytes]]]

ATTACKS: dict[str, tuple[Attack, str]] = {
    "symbolic link": (lambda m: [*m, member("out", kind=tarfile.SYMTYPE, link="/etc")], "link"),
    "link under a listed name": (lambda m: [m[0], member("model", kind=tarfile.SYMTYPE, link="/bin/sh"), m[2]], "link"),
    "hard link": (lambda m: [*m, member("out", kind=tarfile.LNKTYPE, link="model")], "link"),
    "device": (lambda m: [*m, member("null", kind=tarfile.CHRTYPE)], "not a regular file"),
    "pipe": (lambda m: [*m, member("pipe", kind=tarfile.FIFOTYPE)], "not a regular file"),
    "directory": (lambda m: [*m, member("sub", kind=tarfile.DIRTYPE)], "not a regular file"),
    "sparse file": (lambda m: [*m, member("sparse", kind=tarfile.GNUTYPE_SPARSE)], "tar file|not a regular file"),
    "absolute path": (lambda m: [*m, member("/vlab-escaped", b"x")], "relative path"),
    "parent path": (lambda m: [*m, member("../escaped", b"x")], "relative path"),
    "parent path inside": (lambda m: [*m, member("a/../../escaped", b"x")], "relative path"),
    "dot path": (lambda m: [*m, member("./model", b"x")], "relative path"),
    "hidden file": (lambda m: [*m, member(".profile", b"x")], "relative path"),
    "backslash path": (lambda m: [*m, member("..\\escaped", b"x")], "relative path"),
    "control characters": (lambda m: [*m, member("model\n", b"x")], "relative path"),
    "file twice": (lambda m: [*m, m[1]], "twice"),
    "file twice in capitals": (lambda m: [*m, member("MODEL", b"x")], "twice"),
    "extra file": (lambda m: [*m, member("extra", b"x")], "does not list"),
    "missing file": (lambda m: m[:-1], "lacks"),
    "no manifest": (lambda m: m[1:], "no manifest.json"),
    "changed size": (lambda m: [m[0], member("model", m[1][1] + b"x"), m[2]], "bytes"),
    "too many files": (lambda m: [*m, *(member(f"f{i}") for i in range(MAX_FILES))], "more than"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_archives_are_refused_and_leave_nothing(attack: str, tmp_path: Path) -> None:
    """Anything but the regular files of the manifest is refused before a byte is written."""
    members, digest = honest(FILES)
    change, reason = ATTACKS[attack]
    with pytest.raises(DeployError, match=reason):
        unpack(make_archive(change(members)), digest, tmp_path / "artifact")

    assert [] == list(tmp_path.iterdir())
    assert not Path("/vlab-escaped").exists()


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    """A file of the right size with other bytes is not the one that was named."""
    members, digest = honest(FILES)
    members[1] = member("model", FILES["model"][:-1] + b"X")
    with pytest.raises(DigestMismatchError, match="model"):
        unpack(make_archive(members), digest, tmp_path / "artifact")

    assert [] == list(tmp_path.iterdir())


def test_another_manifest_is_refused(tmp_path: Path) -> None:
    """A consistent archive with another manifest than the signed one is refused."""
    members, _ = honest(FILES)
    with pytest.raises(DigestMismatchError, match=r"manifest\.json"):
        unpack(make_archive(members), ZERO, tmp_path / "artifact")


def test_a_manifest_that_is_no_record_is_refused(tmp_path: Path) -> None:
    """A manifest with the right digest must still be a manifest."""
    with pytest.raises(EvidenceError, match="ArtifactManifest"):
        unpack(make_archive([member("manifest.json", b"{}")]), sha256(b"{}").hexdigest(), tmp_path / "artifact")


def test_a_manifest_without_its_executable_is_refused(tmp_path: Path) -> None:
    """The executable must be one of the listed files, never something outside."""
    manifest = make_manifest(FILES, executable="../../bin/sh")
    members = [member("manifest.json", manifest), *(member(name, content) for name, content in FILES.items())]
    with pytest.raises(DeployError, match="executable"):
        unpack(make_archive(members), sha256(manifest).hexdigest(), tmp_path / "artifact")


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_extension_headers_cannot_rename_a_file_outwards(form: int, tmp_path: Path) -> None:
    """A long name in an extension header is judged like any other."""
    members, digest = honest(FILES)
    with pytest.raises(DeployError, match="relative path"):
        unpack(make_archive([*members, member("../" + "x" * 200, b"x")], form), digest, tmp_path / "artifact")


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    """Compression would hide the true size, so only a plain tar is read."""
    buffer = io.BytesIO()
    members, digest = honest(FILES)
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(DeployError, match="plain tar"):
        unpack(buffer.getvalue(), digest, tmp_path / "artifact")


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_archives_are_refused_or_harmless(data: st.DataObject, tmp_path: Path) -> None:
    """Whatever bytes change, either the exact artifact comes out or a refusal, never another exception."""
    members, digest = honest({"model": b"\x7fELF"})
    archive = bytearray(make_archive(members))
    archive = archive[: data.draw(st.sampled_from([len(archive), 0, 100, 512, 1000, 2000]))]
    for _ in range(data.draw(st.integers(0, 8)) if archive else 0):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    into = tmp_path / "artifact"
    try:
        unpack(bytes(archive), digest, into)
    except RefusedError:
        return
    assert b"\x7fELF" == (into / "model").read_bytes()


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    """A file in the way is named."""
    (tmp_path / "artifact").write_text("in the way")
    members, digest = honest(FILES)
    with pytest.raises(DeployError, match="cannot write"):
        unpack(make_archive(members), digest, tmp_path / "artifact")

    assert "in the way" == (tmp_path / "artifact").read_text()


TARGET = targets.load("riscv/rv64gc-linux")
FITTING = MANIFEST.model_copy(update={"target_sha256": TARGET.digest()})


def test_an_artifact_for_this_board_fits() -> None:
    """Model and target, by the target's record and not by its name alone."""
    expect_fit(FITTING, MODEL, TARGET)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"target": "arm/aarch64-linux"}, "this board is a riscv/rv64gc-linux"),
        ({"target_sha256": ZERO}, "another version of targets/riscv/rv64gc-linux.toml"),
        ({"model": MODEL.model_copy(update={"sha256": ZERO})}, "the job names"),
    ],
)
def test_an_artifact_for_something_else_does_not_fit(change: dict[str, str], reason: str) -> None:
    """Another kind of board, the same kind as somebody else defines it, another model."""
    with pytest.raises(DeployError, match=reason):
        expect_fit(FITTING.model_copy(update=change), MODEL, TARGET)
