"""A git bundle's header, read and written; the pack behind it is opaque here.

Format: gitformat-bundle(5). Version 2 is `# v2 git bundle`, `-<sha> comment` for each commit the receiver must have,
`<sha> <ref>` for each head, an empty line, the pack. Version 3 adds `@capability` lines; of those only
`object-format=sha1` is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from swarmrun.errors import GitError

_LINE = re.compile(rb"(?P<minus>-?)(?P<sha>[0-9a-f]{40})(?: (?P<rest>[^\n\0]*))?")
# One head and some prerequisites; a header over this is not ours (arbitrary).
_MAX_HEADER = 64 * 1024
_MAX_LINES = 256


@dataclass(frozen=True)
class Bundle:
    requires: tuple[str, ...]
    """Commits the receiver must have."""
    heads: tuple[str, ...]
    """Commits the refs point to, without repetition."""
    pack: memoryview


def parse(data: bytes) -> Bundle:
    """Raises GitError (reason `BundleRefused`): not a bundle, or one of a kind nobody sends here."""
    end = data.find(b"\n\n", 0, _MAX_HEADER)
    signature, *lines = data[: max(end, 0)].split(b"\n")
    if end < 0 or signature not in (b"# v2 git bundle", b"# v3 git bundle") or len(lines) > _MAX_LINES:
        raise refused("it is not a git bundle")
    requires: list[str] = []
    heads: list[str] = []
    for line in lines:
        if line.startswith(b"@") and signature == b"# v3 git bundle":
            if line != b"@object-format=sha1":
                raise refused(f"capability {line[1:60]!r} is not taken")
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise refused(f"header line {line[:60]!r} cannot be read")
        (requires if match["minus"] else heads).append(match["sha"].decode())
    if not heads:
        raise refused("it has no head")
    pack = memoryview(data)[end + 2 :]
    if bytes(pack[:4]) != b"PACK":
        raise refused("there is no pack behind its header")
    return Bundle(tuple(dict.fromkeys(requires)), tuple(dict.fromkeys(heads)), pack)


def build(pack: bytes | memoryview, *, head: str, ref: str, requires: Sequence[str]) -> bytes:
    """A version 2 bundle of one head. `requires` is what the receiver must have, not only git's boundary: a
    receiver that has it can always take the pack in."""
    header = ["# v2 git bundle", *(f"-{sha}" for sha in requires), f"{head} {ref}", "", ""]
    return "\n".join(header).encode() + bytes(pack)


def refused(why: str) -> GitError:
    return GitError(f"bundle refused: {why}", reason="BundleRefused")
