"""Targets: reading, refusing and running."""

import platform
from pathlib import Path

import pytest

from vlab import settings, targets
from vlab.errors import MissingToolError, TargetError
from vlab.targets import Compiler, Emulator, Firmware, Llvm, Target

EXPECTED = [
    *(f"arm/{name}" for name in ("aarch64-linux", "armv7-linux", "cortex-a72-linux", "cortex-a76-linux")),
    *(f"arm/{name}" for name in ("cortex-m3", "cortex-m4", "cortex-m7")),
    *(f"host/{name}" for name in ("x86_64", "x86_64-v2", "x86_64-v4")),
    *(f"riscv/{name}" for name in ("rv32imac", "rv32imafc", "rv64", "rv64gc-linux", "rv64gcv-linux", "rv64gcv256-linux")),
]
TEXT = (settings.data_dir("targets") / "riscv" / "rv64gcv-linux.toml").read_text(encoding="utf-8")


def written(folder: Path, text: str) -> Path:
    """A target file with that text, in a folder of the family riscv."""
    path = folder / "riscv" / "board.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_known_targets_are_sorted_by_name():
    """The targets that ship are all readable, under the names of their files, in order."""
    assert list(targets.known()) == EXPECTED
    assert [target.name for target in targets.known().values()] == EXPECTED


def test_unknown_target_lists_the_known_ones():
    """Asking for a target that does not exist tells which do."""
    with pytest.raises(TargetError, match=r"'riscv/rv128' is unknown; expected one of: arm/aarch64-linux, arm/armv7-linux"):
        targets.load("riscv/rv128")


@pytest.mark.parametrize("name", ["../riscv/rv64gc-linux", "/etc/passwd", "riscv", ""])
def test_a_name_is_never_a_path(name: str):
    """Only names of known files are looked up, so that no name leads out of the folder."""
    with pytest.raises(TargetError, match="unknown"):
        targets.load(name)


def test_targets_survive_their_canonical_json():
    """Law of records: `from_json(t.to_json()) == t`."""
    for target in targets.known().values():
        assert Target.from_json(target.to_json()) == target


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("lanes = 16", "lanes = 0", "lanes"),
        ("lanes = 16", 'lanes = "16"', "lanes"),
        ("lanes = 16", "lanes = true", "lanes"),
        ("lanes = 16", "lanes = 1979-05-27", "lanes"),
        ("lanes = 16", "lanes = 16\nspeed = 3", "speed"),
        ("lanes = 16\n", "", "lanes"),
        ("description =", "name = 'x/y'\ndescription =", "name"),
        ('program = "qemu-riscv64"', 'program = "/tmp/qemu"', "emulator.program"),
        ('"+zvl128b"', '"zvl128b"', r"emit.mattr.7"),
        ('"-static"', '"-static -shared"', r"compiler.flags.1"),
        ("[emulator]", "[emulator", r"line \d+"),
    ],
)
def test_a_wrong_file_is_refused_by_file_and_key(tmp_path: Path, old: str, new: str, key: str):
    """Whatever is wrong in a target's file, the message names the file and the key."""
    assert old in TEXT
    path = written(tmp_path, TEXT.replace(old, new, 1))

    with pytest.raises(TargetError, match=rf"board\.toml.*{key}"):
        targets.read(path)


def test_the_place_of_a_file_is_its_name(tmp_path: Path):
    """Family and board come from folder and file."""
    assert targets.read(written(tmp_path, TEXT)).name == "riscv/board"


def test_a_folder_of_the_user_adds_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file in VLAB_TARGETS is a target like those that ship; it cannot take the place of one."""
    monkeypatch.setenv("VLAB_TARGETS", str(tmp_path))
    path = written(tmp_path, TEXT)

    assert [*EXPECTED, "riscv/board"] == sorted(targets.known(), key=[*EXPECTED, "riscv/board"].index)
    assert targets.read(path) == targets.load("riscv/board")

    path.rename(path.with_name("rv64gcv-linux.toml"))
    with pytest.raises(TargetError, match="are both target riscv/rv64gcv-linux"):
        targets.load("riscv/rv64gcv-linux")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("isa =", 'machine = "x"\nisa =', "expected either machine, for a board with Linux, or"),
        ("timer_hz = 25_000_000", "timer_hz = 25_000_000\ntimer_address = 1", "timer_address is the address of mtime"),
        ('family = "cortex-m"', 'family = "riscv"', "timer_address is the address of mtime"),
        ("stack_bytes = 8192", "stack_bytes = 8190", r"firmware.stack_bytes"),
        ("ram_origin = 0x2000_0000", "ram_origin = 0x10_0000", "flash and RAM overlap"),
    ],
)
def test_a_microcontroller_that_contradicts_itself_is_refused(tmp_path: Path, old: str, new: str, told: str):
    """Linux or firmware, and mtime's address exactly on RISC-V."""
    text = (settings.data_dir("targets") / "arm" / "cortex-m4.toml").read_text(encoding="utf-8")
    assert old in text

    with pytest.raises(TargetError, match=told):
        targets.read(written(tmp_path, text.replace(old, new, 1)))


def test_an_image_boots_under_the_emulator_with_its_arguments():
    """A system emulator takes the image as its kernel and hands over arguments by semihosting, which hold no blanks."""
    target = targets.load("arm/cortex-m4")
    try:
        command = target.command(Path("/a b/model"), ["infer", "in,1"], options=["-plugin", "file=count.so"])
    except MissingToolError as error:
        pytest.skip(str(error))

    assert ["-M", "mps2-an386", "-plugin", "file=count.so"] == command[1:5]
    assert ["-semihosting-config", "enable=on,target=native,arg=model,arg=infer,arg=in,,1"] == command[-4:-2]
    assert ["-kernel", "/a b/model"] == command[-2:]
    with pytest.raises(TargetError, match="'in 1' holds a blank"):
        target.command(Path("model"), ["infer", "in 1"])


def test_the_documentation_explains_every_key():
    """Whatever a target's file may hold stands in docs/targets.md, as a key or as a table."""
    text = (settings.checkout() / "docs" / "targets.md").read_text(encoding="utf-8")
    keys = [*Target.model_fields, *Firmware.model_fields, *Llvm.model_fields, *Emulator.model_fields, *Compiler.model_fields]

    assert [] == [key for key in keys if f"`{key}`" not in text and f"`[{key}]`" not in text and key not in ("name", "kind")]


def test_code_generation_options_are_tvms():
    """Empty options are left out and attributes are a list, as `tvm.target.Target` wants them."""
    target = targets.load("host/x86_64")

    assert target.lower.options() == {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64-v3"}


def test_command_goes_through_the_emulator(tmp_path: Path):
    """On another machine the emulator runs the executable, with the CPU of the target and further options."""
    target = targets.load("riscv/rv64gcv-linux")
    if not target.emulated:
        pytest.skip("this machine is such a board")
    (tmp_path / "qemu-riscv64").write_text("#!/bin/sh\n")
    (tmp_path / "qemu-riscv64").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        command = target.command(Path("/a/model"), ["infer", Path("in")], options=["-plugin", "file=count.so,out=n"])

    expected = [f"{tmp_path}/qemu-riscv64", "-cpu", "rv64,v=true,vlen=128,vext_spec=v1.0"]
    assert command == [*expected, "-plugin", "file=count.so,out=n", "/a/model", "infer", "in"]


def test_a_missing_emulator_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Without the emulator the message is the command that installs it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    target = targets.load("arm/aarch64-linux")
    if not target.emulated:
        pytest.skip("this machine is such a board")

    with pytest.raises(MissingToolError, match="apt-get install --no-install-recommends qemu-user"):
        target.command(Path("model"), [])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 machine")
def test_a_cpu_without_the_features_is_refused():
    """A CPU that lacks a feature is refused by its name, instead of the program dying of an illegal instruction."""
    target = targets.load("host/x86_64")
    strange = target.model_copy(update={"cpu_features": ("sse2", "avx2048")})

    assert not strange.native
    with pytest.raises(TargetError, match="this machine's CPU lacks: avx2048"):
        strange.command(Path("model"), [])


def test_another_machine_without_emulator_is_refused():
    """A target that neither matches this machine nor has an emulator cannot run here."""
    target = targets.load("riscv/rv64gc-linux").model_copy(update={"emulator": None, "machine": "pdp11"})

    with pytest.raises(TargetError, match="runs only on pdp11"):
        target.command(Path("model"), [])


def test_a_native_board_needs_no_emulator_and_takes_no_options():
    """On such a board itself the executable is run as it is."""
    target = targets.load("riscv/rv64gc-linux").model_copy(update={"machine": platform.machine(), "cpu_features": ()})

    assert not target.emulated
    assert target.command(Path("/a/model"), ["infer"]) == ["/a/model", "infer"]
    with pytest.raises(TargetError, match="no emulator"):
        target.command(Path("/a/model"), [], options=["-plugin", "file=count.so"])
