"""Which directories of the user's machine a sandbox may read, so that the agent finds the user's tools.

Toolchains often live below the home directory, next to keys and tokens. So a home is never shown: of each
known toolchain only its root is, and of `~/.cargo`, which holds a registry token, only `bin`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Bound as they are on every machine."""

_IN_HOME = {
    ".pyenv": (".pyenv",),
    ".rbenv": (".rbenv",),
    ".nodenv": (".nodenv",),
    ".goenv": (".goenv",),
    ".jenv": (".jenv",),
    ".asdf": (".asdf",),
    ".volta": (".volta",),
    ".bun": (".bun/bin",),
    ".deno": (".deno/bin",),
    ".sdkman": (".sdkman/candidates",),
    ".nvm": (".nvm/versions",),
    ".cargo": (".cargo/bin", ".rustup"),
    "go": ("go/bin",),
    ".local/bin": (".local/bin", ".local/share/pipx", ".local/pipx", ".local/share/uv"),
    ".local/share/mise": (".local/share/mise",),
    ".local/share/fnm": (".local/share/fnm",),
    ".local/share/pnpm": (".local/share/pnpm",),
}
"""What belongs to a `PATH` entry below a home, by the entry's first words."""

_ROOT_VARIABLES = (
    "PYENV_ROOT",
    "RUSTUP_HOME",
    "GOROOT",
    "JAVA_HOME",
    "VOLTA_HOME",
    "NVM_DIR",
    "ASDF_DATA_DIR",
)
"""Passed on when they point to something visible: shims look there."""


@dataclass(frozen=True)
class Toolchains:
    """`roots` to bind read-only, the `path` inside, and variables that the tools' shims need."""

    roots: tuple[Path, ...]
    path: str
    env: dict[str, str] = field(default_factory=dict[str, str])


def toolchains(path: str, *, home: Path, environ: dict[str, str] | None = None) -> Toolchains:
    """For a `PATH` and a home directory. The running Python is always among them, and first on the path
    when the user's own `PATH` gives no pytest that runs."""
    environ = environ or {}
    homes = {home, home.resolve(), Path(pwd.getpwuid(os.getuid()).pw_dir)}  # HOME may have been set anew.
    entries = [
        Path(e) for e in dict.fromkeys(path.split(os.pathsep)) if os.path.isabs(e) and os.path.isdir(e)
    ]
    roots: list[Path] = []
    seen: list[str] = []
    for entry in entries:
        found = _roots(entry, homes)
        if _is_system(entry) or found:
            seen.append(str(entry))
            roots.extend(found)
    for prefix in (sys.prefix, sys.base_prefix):
        if not _is_system(Path(prefix)) and not _contains_any(Path(prefix), homes):
            roots.append(Path(prefix))
    roots = [*roots, *(root.resolve() for root in roots)]
    roots = [r for r in roots if r.exists() and not _is_system(r) and not _contains_any(r, homes)]
    env = {
        name: value
        for name in _ROOT_VARIABLES
        if (value := environ.get(name, "")) and any(Path(value).is_relative_to(root) for root in roots)
    }
    for rustup in (root for root in roots if root.name == ".rustup"):
        env.setdefault("RUSTUP_HOME", str(rustup))  # Its default is below HOME, which is another one inside.
    return Toolchains(tuple(_outermost(roots)), _with_pytest(os.pathsep.join(seen)), env)


def _with_pytest(path: str) -> str:
    """Puts the running Python first unless the path has a pytest of its own that works."""
    own = os.path.join(sys.prefix, "bin")
    if not _pytest_runs(path):
        path = os.pathsep.join([own, *(e for e in path.split(os.pathsep) if e and e != own)])
    return path or os.defpath


@lru_cache(maxsize=8)
def _pytest_runs(path: str) -> bool:
    """A pyenv shim exists also where the chosen Python has no pytest: only a start tells."""
    pytest = shutil.which("pytest", path=path)
    if pytest is None:
        return False
    try:
        env = {**os.environ, "PATH": path}
        ended = subprocess.run([pytest, "--version"], env=env, capture_output=True, timeout=20, cwd="/")
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0


def _roots(entry: Path, homes: Iterable[Path]) -> list[Path]:
    if _is_system(entry) or _contains_any(entry, homes):
        return []
    for home in homes:
        if entry.is_relative_to(home):
            inside = entry.relative_to(home)
            for words, shown in _IN_HOME.items():
                if inside.is_relative_to(words):
                    return [home / name for name in shown]
    parent = entry.parent
    # A prefix: a virtual environment, conda, or something unpacked (`bin` beside `lib`).
    is_prefix = any((parent / name).exists() for name in ("pyvenv.cfg", "conda-meta", "lib"))
    if entry.name in ("bin", "sbin", "Scripts") and is_prefix and not _contains_any(parent, homes):
        return [parent] if parent != Path("/") else []
    return [entry]


def _is_system(path: Path) -> bool:
    return any(path.is_relative_to(root) for root in SYSTEM)


def _contains_any(path: Path, homes: Iterable[Path]) -> bool:
    return any(home.is_relative_to(path) for home in homes)


def _outermost(roots: Iterable[Path]) -> list[Path]:
    """Without duplicates and without what lies in another; shorter ones first, as binds need it."""
    kept: list[Path] = []
    for root in sorted(set(roots), key=lambda r: (len(r.parts), r)):
        if not any(root.is_relative_to(outer) for outer in kept):
            kept.append(root)
    return kept
