"""mergiraf, a syntax-aware merge tool, where its binary is present (it is not part of this project)."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from swarmrun.code.languages import PROGRAMS
from swarmrun.merging.cases import Attempt, Case, How

_SECONDS = 10


@dataclass(frozen=True)
class Structural:
    """`binary` is looked up on the path when it is empty."""

    binary: str = ""
    how: How = "Structural"

    def resolve(self, case: Case) -> Attempt | None:
        binary = self.binary or shutil.which("mergiraf") or ""
        if not binary or case.language not in PROGRAMS:
            return None
        name = PurePosixPath(case.path).name
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, f"{side}-{name}") for side in ("base", "ours", "theirs")]
            for file, text in zip(files, case.texts, strict=True):
                file.write_text(text, encoding=case.style.encoding, newline="")
            try:
                done = subprocess.run(
                    [binary, "merge", "--git", "-p", case.path, "-o", f"{folder}/merged", *map(str, files)],
                    capture_output=True,
                    check=False,
                    timeout=_SECONDS,
                    cwd=folder,
                )
                text = Path(folder, "merged").read_bytes().decode(case.style.encoding)
            except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
                return None
        return Attempt(text, "merged by mergiraf") if done.returncode == 0 else None
