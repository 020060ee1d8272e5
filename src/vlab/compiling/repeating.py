"""The same compile once more in other surroundings: `python -m vlab.compiling.repeating DIRECTORY`.

The model's path, directory, process, hash seed, time zone, locale, home and file mode mask are others than before, and nothing
comes from a cache: what differs then in the artifact depends on something that its cache key does not know.
"""

import os
import shutil
import sys
from pathlib import Path

from vlab import processes
from vlab.compiling.building import compile_model
from vlab.compiling.reading.gathering import gather
from vlab.errors import CompileError, VlabError
from vlab.records import CompileOptions, Record
from vlab.targets import Target

_ORDER, _ANSWER, _MODELS = "again.json", "again.txt", "models"
_LIMIT_S = 900.0


class Order(Record):
    """What to compile again."""

    model: str
    target: Target
    options: CompileOptions
    probe_inputs: str | None


def compile_elsewhere(
    model: Path, target: Target, folder: Path, *, options: CompileOptions | None = None, probe_inputs: Path | None = None
) -> Path:
    """Compile in another process and environment.

    Args:
        model: the model's file.
        target: what to compile for.
        folder: an empty directory for everything; the artifact stays in it.
        options: what the requester chose.
        probe_inputs: data set for the reference check.

    Returns:
        The artifact's directory.

    Raises:
        CompileError: it failed this time.
    """
    home = folder / "another home"
    (home / _MODELS).mkdir(parents=True)
    copy = gather(model, home / _MODELS).path
    if copy == model:
        copy = Path(shutil.copyfile(model, home / _MODELS / model.name))
    order = Order(
        model=str(copy.absolute()),
        target=target,
        options=options or CompileOptions(),
        probe_inputs=str(probe_inputs.absolute()) if probe_inputs else None,
    )
    (home / _ORDER).write_bytes(order.to_json())
    surroundings = {
        "HOME": str(home),
        "LC_ALL": "tr_TR.UTF-8",
        "PYTHONHASHSEED": "20240229",
        "SOURCE_DATE_EPOCH": "1",
        "TMPDIR": str(home),
        "TZ": "Pacific/Kiritimati",
    }
    try:
        done = processes.run_limited(
            [sys.executable, "-m", "vlab.compiling.repeating", home], timeout_s=_LIMIT_S, cwd=home, env=surroundings
        )
    except processes.LimitError as error:
        raise CompileError(f"compiling for {target.name} again took too long: {error}") from error
    if done.returncode:
        raise CompileError(f"compiling for {target.name} again failed, and did not before: {done.last_words}")
    return Path((home / _ANSWER).read_text(encoding="utf-8"))


def differing(one: Path, other: Path) -> set[str]:
    """Names of the files that are not in both directories with the same bytes and the same right to be executed."""

    def content(path: Path) -> tuple[bytes, bool]:
        return path.read_bytes(), os.access(path, os.X_OK)

    ours = {path.name: content(path) for path in one.iterdir()}
    theirs = {path.name: content(path) for path in other.iterdir()}
    return {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}


def main() -> None:
    """Carry out the order in the directory that is the only argument."""
    os.umask(0o077)
    home = Path(sys.argv[1])
    order = Order.from_json((home / _ORDER).read_bytes())
    try:
        compiled = compile_model(
            Path(order.model),
            order.target,
            cache=home / "a cache",
            options=order.options,
            probe_inputs=Path(order.probe_inputs) if order.probe_inputs else None,
        )
    except VlabError as error:
        sys.exit(str(error))
    (home / _ANSWER).write_text(str(compiled.directory), encoding="utf-8")


if __name__ == "__main__":
    main()
