"""Small files that are whole at every moment, whoever is killed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from swarmrun.errors import StorageUnavailable


def write_atomic(path: Path, data: str | bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replaces a file in one step. `durable` waits for the disk: not needed for what is written again soon.

    Raises StorageUnavailable (a full disk is found here).
    """
    raw = data.encode() if isinstance(data, str) else data
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if durable:
                os.fsync(file.fileno())
        os.replace(name, path)
    except OSError as exc:
        if name:
            Path(name).unlink(missing_ok=True)
        raise StorageUnavailable(
            f"cannot write {path}: {exc.strerror or exc}",
            mend="free disk space, or set SWARMRUN_HOME elsewhere",
        ) from exc
