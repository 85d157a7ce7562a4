"""Takes a stranger's pack into a bare repository: checked in quarantine first, then moved in whole.

Nothing of a refused pack becomes visible: an object that merely lies about would make a later "is it there?" lie.
(git's own receive-pack does the same; fetching from a bundle file does not check objects before git 2.46.)
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from swarmrun.errors import GitError
from swarmrun.git.bundles import refused
from swarmrun.git.command import disk, git

# Slips of old tools that live on in the histories of well-known projects (flask, requests …) and harm nobody.
# Everything else that fsck knows refuses the pack: `.git` in any spelling, `..`, `/` in names, symlinked or
# misleading .gitmodules, unsorted trees.
_TOLERATED = (
    "zeroPaddedFilemode", "badTimezone", "badDate", "badDateOverflow", "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail", "missingEmail", "badEmail", "badName", "missingNameBeforeEmail",
    "multipleAuthors", "missingTaggerEntry", "badTagName", "nulInCommit",
)  # fmt: skip
TOLERATED = dict.fromkeys(_TOLERATED, "ignore")
"""fsck message ids and severity, for `fetch.fsck.*` too."""

# A pack of fewer objects is kept as loose objects (git's own default of transfer.unpackLimit is 100).
_UNPACK_LIMIT = 100
# GitHub refuses files over 100 MiB; what cannot be published need not be taken in.
MAX_BLOB = 100 * 1024 * 1024
# A directory of 200,000 files has about 10 MB (arbitrary).
MAX_OTHER = 16 * 1024 * 1024
"""Bytes of a tree, commit or tag."""
MAX_OBJECTS = 500_000
"""Of one pack from a sandbox (arbitrary: five times a work tree of 100,000 files)."""
MEMORY = 768 * 1024 * 1024
"""What git may allocate for it: some copies of the largest file. A delta of 100 kB can ask for gigabytes."""


def take_in(
    repository: Path,
    pack: memoryview,
    *,
    commit: str,
    requires: Sequence[str],
    max_blob: int = MAX_BLOB,
    max_objects: int | None = MAX_OBJECTS,
    memory: int | None = MEMORY,
    timeout: float = 300,
) -> None:
    """Adds the pack's objects when they are sound, complete together with `requires`, and hold `commit`.

    `memory` is for each git process, in bytes; `max_objects` and `memory` None: unbounded.
    Raises GitError (reason `BundleRefused`).
    """
    objects = repository / "objects"
    count = int.from_bytes(pack[8:12], "big") if len(pack) >= 12 else 0
    if max_objects is not None and count > max_objects:
        raise refused(f"it says it has {count} objects, {max_objects} are allowed")
    with disk(repository), tempfile.TemporaryDirectory(prefix="incoming-", dir=repository) as incoming:
        quarantine = {"GIT_OBJECT_DIRECTORY": incoming, "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects)}
        strict = "--strict=" + ",".join(f"{name}=ignore" for name in _TOLERATED)
        how = (
            ["unpack-objects", "-q", strict]
            if count < _UNPACK_LIMIT
            else ["index-pack", "--stdin", "--fix-thin", strict]
        )
        try:
            git(*how, cwd=repository, env=quarantine, stdin=pack, timeout=timeout, memory=memory)
            # Walks from the commit down to what the repository already holds: everything must be there.
            listed = git(
                "rev-list", "--objects", "--no-object-names", f"{commit}^{{commit}}", "--not", *requires,
                cwd=repository, env=quarantine, timeout=timeout, memory=memory,
            )  # fmt: skip
            sizes = git(
                "cat-file", "--batch-check=%(objecttype) %(objectsize) %(objectname)",
                cwd=repository, env=quarantine, stdin=listed.stdout, timeout=timeout, memory=memory,
            )  # fmt: skip
        except GitError as exc:
            raise refused(exc.output.splitlines()[-1] if exc.output else exc.message) from exc
        new_commit = False
        for line in sizes.text.splitlines():
            kind, size, name = line.split(" ")
            if kind == "blob" and int(size) > max_blob:
                raise refused(f"file {name} has {size} bytes, {max_blob} are allowed")
            if kind != "blob" and int(size) > MAX_OTHER:
                raise refused(f"{kind} {name} has {size} bytes, {MAX_OTHER} are allowed")
            new_commit = new_commit or (kind == "commit" and name == commit)
        if not new_commit and sizes.text:
            raise refused(f"{commit} is not a commit in it")
        _move_in(Path(incoming), objects)


def _move_in(incoming: Path, objects: Path) -> None:
    # A pack counts from the moment its .idx is there, so that goes last.
    files = sorted(
        (path for path in incoming.rglob("*") if path.is_file()), key=lambda path: path.suffix == ".idx"
    )
    for file in files:
        target = objects / file.relative_to(incoming)
        target.parent.mkdir(exist_ok=True)
        # Names are hashes of the content: whoever was first wrote the same.
        if not target.exists():
            with suppress(FileExistsError):
                os.link(file, target)
