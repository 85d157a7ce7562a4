"""Looks for secrets in whatever it is given: in every usual spelling, and inside of what is packed."""

from __future__ import annotations

import base64
import gzip
import io
import json
import subprocess
import tarfile
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote_from_bytes

GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0")


def spellings(value: bytes) -> set[bytes]:
    """As it is, as JSON and URLs write it, in hex, and in base64 at each of the three places it can begin."""
    found = {
        value,
        value.hex().encode(),
        value.hex().upper().encode(),
        quote_from_bytes(value, safe="").encode(),
    }
    found.add(json.dumps(value.decode("latin-1"))[1:-1].encode())
    for shift in range(3):
        # Without the characters that its neighbours have a part in.
        for code in (base64.b64encode, base64.urlsafe_b64encode):
            text = code(b"\0" * shift + value)
            found.add(text[4 if shift else 0 : len(text) - 4])
    return found


class Search:
    """`found` has the name of a secret and the place, once each. Safe for threads."""

    def __init__(self, scratch: Path) -> None:
        self.found: set[tuple[str, str]] = set()
        self.unread: set[str] = set()
        """What could not be opened, and so was not looked into."""
        self._needles: dict[str, set[bytes]] = {}
        self._scratch = scratch
        self._lock = threading.Lock()

    def know(self, name: str, value: str | bytes) -> None:
        raw = value.encode() if isinstance(value, str) else value
        assert len(raw) >= 12, f"{name} is too short to be looked for"
        with self._lock:
            self._needles[name] = spellings(raw)

    def places(self, name: str) -> set[str]:
        return {place for found, place in self.found if found == name}

    def look(self, place: str, data: bytes, *, but: Iterable[str] = ()) -> None:
        """`but`: secrets that belong there."""
        with self._lock:
            needles = {name: words for name, words in self._needles.items() if name not in but}
        for name, words in needles.items():
            if any(word in data for word in words):
                with self._lock:
                    self.found.add((name, place))

    def unpacked(self, place: str, data: bytes, *, but: Iterable[str] = ()) -> None:
        """`look`, and into what gzip or zlib packed."""
        self.look(place, data, but=but)
        try:
            if data[:2] == b"\x1f\x8b":
                self.look(place, gzip.decompress(data), but=but)
            elif data[:1] == b"\x78":
                self.look(place, zlib.decompress(data), but=but)
        except (OSError, zlib.error, EOFError):
            return  # Only its beginning looked like it.

    def archive(self, place: str, data: bytes, *, but: Iterable[str] = ()) -> list[str]:
        """A tar: all its files, and all objects of the git bundles and packs in it. Gives the files' names."""
        names: list[str] = []
        packs: list[tuple[str, bytes]] = []
        try:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as tar:
                for member in tar:
                    names.append(member.name)
                    self.look(place, f"{member.name}\0{member.linkname}".encode("utf-8", "replace"), but=but)
                    if member.isfile():
                        content = tar.extractfile(member).read()  # type: ignore[union-attr]
                        self.unpacked(place, content, but=but)
                        if content[:15] in (b"# v2 git bundle", b"# v3 git bundle") or content[:4] == b"PACK":
                            packs.append((member.name, content))
        except tarfile.ReadError:
            if not names:
                raise
        if packs:
            self._objects(place, packs, but)
        return names

    def _objects(self, place: str, packs: list[tuple[str, bytes]], but: Iterable[str]) -> None:
        """Bundles build on each other: they are taken in until none goes any more."""
        repo = self._scratch / f"objects-{threading.get_ident()}-{len(self.unread)}-{len(packs)}.git"
        subprocess.run([*GIT, "init", "-q", "--bare", str(repo)], check=True)
        left = packs
        while left:
            again = []
            for name, content in left:
                pack = content[max(content.find(b"PACK"), 0) :]
                line = [*GIT, "-C", str(repo), "unpack-objects", "-q"]
                if subprocess.run(line, input=pack, capture_output=True).returncode:
                    again.append((name, content))
            if len(again) == len(left):
                self.unread |= {f"{place}: {name}: {content[:200]!r}" for name, content in again}
                break
            left = again
        self.repository(place, repo, but=but)

    def repository(self, place: str, repo: Path, *, but: Iterable[str] = ()) -> None:
        """Every object and every ref."""
        line = [*GIT, "-C", str(repo), "cat-file", "--batch-all-objects", "--batch", "--buffer"]
        self.look(place, subprocess.run(line, capture_output=True, check=True).stdout, but=but)
        line = [*GIT, "-C", str(repo), "for-each-ref"]
        self.look(place, subprocess.run(line, capture_output=True, check=True).stdout, but=but)
