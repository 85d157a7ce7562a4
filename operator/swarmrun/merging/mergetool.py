"""One file merged for git: what stands behind a merge driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmrun.errors import InvalidResource
from swarmrun.merging.cases import Case, How
from swarmrun.merging.guards.files import inspect
from swarmrun.merging.guards.finding import Finding, Versions
from swarmrun.merging.ladder import resolve
from swarmrun.merging.partial import partial


@dataclass(frozen=True)
class MergeFileReport:
    """What was done with one file, and why."""

    path: str
    resolved: bool
    how: How | None
    """The rung that led there; None when conflicts are left."""
    note: str
    conflicts: int
    """Places with markers in OUT."""
    findings: Sequence[Finding]
    """What the guards say about the result; never hard ones when it is resolved."""
    command: str = ""
    """For lockfiles: what makes the file anew."""

    @property
    def exit_code(self) -> int:
        """0 resolved and guarded, 1 conflicts left in OUT with markers. (2, usage, is raised.)"""
        return 0 if self.resolved else 1


_MOST = 50_000_000
"""Bytes of one version; more is a mistake. Arbitrary."""


def run(path_name: str, base: Path, ours: Path, theirs: Path, out: Path) -> MergeFileReport:
    """Merges three files into `out` (which may be one of them), the language taken from `path_name`.

    An empty base file means that both sides added the file. Raises InvalidResource for what cannot be
    read or written: exit code 2.
    """
    data = [_read(name, path) for name, path in (("BASE", base), ("OURS", ours), ("THEIRS", theirs))]
    case = Case(path_name, data[0] or None, data[1], data[2])
    for side, other in ((data[1], data[2]), (data[2], data[1])):
        if other in (side, data[0]):
            _write(out, side)
            return MergeFileReport(
                path_name, True, "Clean", "one side is unchanged, or both are equal", 0, []
            )
    solved = resolve(case)
    if solved is not None:
        content, resolution = solved
        _write(out, content)
        findings = inspect(Versions(path_name, case.base, case.ours, case.theirs, content))
        return MergeFileReport(
            path_name, True, resolution.how, resolution.note, 0, findings, resolution.command
        )
    content, note = partial(case, ("ours", "theirs"))
    _write(out, content)
    left = content.count(b"\n>>>>>>> theirs") if case.mergeable else 1
    if not case.mergeable:
        note = "binary, too large, or of mixed encodings: OUT holds ours"
    return MergeFileReport(path_name, False, None, note, left, [])


def _read(name: str, path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST:
            raise InvalidResource(f"{name}: {path} has more than {_MOST:,} bytes")
        return path.read_bytes()
    except FileNotFoundError as exc:
        raise InvalidResource(f"{name}: no file {path}") from exc
    except OSError as exc:
        raise InvalidResource(f"{name}: {path} cannot be read: {exc.strerror}") from exc


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as exc:
        raise InvalidResource(f"OUT: {path} cannot be written: {exc.strerror}") from exc
