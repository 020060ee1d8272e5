"""A directory as one archive whose bytes depend on nothing but its files."""

import io
import tarfile
from pathlib import Path


def pack(directory: Path) -> bytes:
    """Files of an artifact's directory as an uncompressed tar archive (POSIX.1-1988 ustar).

    Names are sorted; owners, times and all permissions but the executable bit are fixed. Law: equal files, equal bytes.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(directory.iterdir()):
            entry = tarfile.TarInfo(path.name)
            entry.size = path.stat().st_size
            entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as stream:
                archive.addfile(entry, stream)
    return buffer.getvalue()
