"""Guards over one line of work: an agent's branch when it finishes, a fixer's round."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from swarmrun.code.parse import syntax_errors
from swarmrun.code.stubs import stubs
from swarmrun.code.tests import is_test, test_cases
from swarmrun.code.text import is_binary, readable
from swarmrun.merging.guards.finding import Finding, Versions
from swarmrun.merging.guards.testcases import compare
from swarmrun.merging.guards.texts import markers
from swarmrun.merging.plumbing import Change, Entry, Repo

HUGE = 1_000_000
"""Bytes over which a committed file needs a reason. Arbitrary."""

_JUNK = re.compile(
    r"(^|/)(node_modules|__pycache__|\.venv|venv|\.mypy_cache|\.pytest_cache|\.ruff_cache|\.idea|\.tox|coverage)/"
    r"|\.(pyc|pyo|orig|rej|swp|log|tmp|class|o|so|dylib|exe)$|(^|/)(\.DS_Store|\.coverage|core)$"
)
_SECRET = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36,}\b"
    rb"|\bsk-[A-Za-z0-9_-]{32,}\b|\bxox[abprs]-[A-Za-z0-9-]{10,}\b|\bglpat-[A-Za-z0-9_-]{20,}\b"
)


def check_branch(
    repo: Path,
    base: str,
    head: str,
    *,
    owned: Sequence[str] = (),
    role: str = "coder",
    scaffold: str | None = None,
    others: Mapping[str, Sequence[str]] | None = None,
) -> Sequence[Finding]:
    """What is wrong with an agent's branch, seen from `base`, the commit its sandbox started from.

    `owned` are paths, folders (`app/`, `app`) or globs (`app/**/*.py`) that the task owns; empty means that
    it owns everything. `others` maps other tasks to the paths they own: changing one of those is hard,
    changing what nobody owns is an escalation. `scaffold` is the commit with the contracts' signatures: none
    of its stubs may be left in the task's own paths. The role says whose tests are whose: a test-writer's
    own business are tests, so nobody owns them before it.
    """
    git = Repo(repo)
    changes = git.changes(base, head)
    findings: list[Finding] = []
    for change in changes:
        findings += _ownership(change.path, owned, others or {})
        findings += _junk(change)
    findings += _contents(git, changes, owned, role)
    if scaffold:
        findings += _leftovers(git, scaffold, head, owned)
    return _sorted(findings)


def check_round(repo: Path, before: str, after: str) -> Sequence[Finding]:
    """What a fixer's round has spoilt: tests deleted or weakened, code stubbed out, syntax, junk, markers."""
    git = Repo(repo)
    changes = git.changes(before, after)
    findings = [finding for change in changes for finding in _junk(change)]
    findings += _contents(git, changes, ("no path is its own",), "fixer")
    return _sorted(findings)


def locked_changed(
    repo: Path, partial_tree: str, result: str, conflict_paths: Collection[str]
) -> Sequence[Finding]:
    """Files that were merged already (everything but `conflict_paths`) and were changed all the same."""
    changed = [c.path for c in Repo(repo).changes(partial_tree, result) if c.path not in set(conflict_paths)]
    return [
        Finding(
            path,
            "locked",
            f"{path} was merged already and is locked, but it was changed. Take your change back; only "
            f"{', '.join(sorted(conflict_paths)) or 'no file'} may be edited.",
            "hard",
        )
        for path in changed
    ]


def owns(owned: Sequence[str], path: str) -> bool:
    """Whether a path is one of these paths, lies in one of these folders or fits one of these globs."""
    for pattern in owned:
        plain = pattern.removeprefix("./").rstrip("/")
        if plain in ("", ".", "**") or path == plain or path.startswith(plain + "/"):
            return True
        if "*" in plain or "?" in plain or "[" in plain:
            short = plain.replace("**/", "")
            if fnmatchcase(path, plain) or fnmatchcase(path, short):
                return True
            if plain.endswith("/**") and path.startswith(plain[:-2]):
                return True
    return False


def _sorted(findings: Sequence[Finding]) -> Sequence[Finding]:
    return sorted(findings, key=lambda f: (f.severity != "hard", f.path, f.line))


def _ownership(path: str, owned: Sequence[str], others: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    if not owned or owns(owned, path):
        return
    owner = next((task for task, paths in others.items() if owns(paths, path)), "")
    if owner:
        text = (
            f"{path} belongs to task {owner}. Take your change to it back (git checkout of the base's version) "
            "and use what that task provides; a missing piece is reported as a contract issue."
        )
    else:
        text = f"{path} is outside the task's own paths ({', '.join(owned[:5])}). Take it back, or say why."
    yield Finding(path, "ownership", text, "hard" if owner else "escalate")


def _junk(change: Change) -> Iterator[Finding]:
    if change.old is None and change.new and _JUNK.search(change.path):
        text = f"{change.path} looks generated. Remove it and have .gitignore name it."
        yield Finding(change.path, "junk", text, "escalate")
    if change.new and change.new.mode == "160000" and change.old is None:
        yield Finding(change.path, "junk", f"{change.path} is a nested repository. Remove it.", "hard")


def _contents(git: Repo, changes: Sequence[Change], owned: Sequence[str], role: str) -> Iterator[Finding]:
    entries = [e for c in changes for e in (c.old, c.new) if e and e.mode != "160000"]
    blobs = git.blobs(e.oid for e in entries)

    def data(entry: Entry | None) -> bytes | None:
        return blobs[entry.oid] if entry and entry.regular else None

    for change in changes:
        old, new = data(change.old), data(change.new)
        mine = not owned or owns(owned, change.path) or (role == "test-writer" and change.old is None)
        if is_test(change.path) and old is not None and not mine:
            yield from _tests(change.path, old, new, changes, data)
        if new is None:
            continue
        yield from _file(change.path, old, new)


def _file(path: str, old: bytes | None, new: bytes) -> Iterator[Finding]:
    if len(new) > HUGE and (old is None or len(old) <= HUGE):
        yield Finding(path, "junk", f"{path} has {len(new):,} bytes. Remove it, or say why.", "escalate")
    elif is_binary(new) and old is None:
        yield Finding(path, "junk", f"{path} is binary. Remove it, or say why it is needed.", "escalate")
    if (secret := _SECRET.search(new)) and not (old and _SECRET.search(old)):
        line = new.count(b"\n", 0, secret.start()) + 1
        text = f"{path}:{line}: this looks like a key. Remove it; keys come from the environment."
        yield Finding(path, "secret", text, "escalate", line)
    if not readable(new):
        return
    versions = Versions(path, old, old, None, new)
    yield from markers(versions)
    for problem in syntax_errors(path, new)[:1]:
        text = f"{path}:{problem.line}:{problem.column}: does not parse: {problem.message}. Repair it."
        broken_before = old is not None and bool(syntax_errors(path, old))
        yield Finding(path, "parse", text, "escalate" if broken_before else "hard", problem.line)
    yield from _stubs(path, old, new)


def _stubs(path: str, old: bytes | None, new: bytes) -> Iterator[Finding]:
    before = {stub.name for stub in stubs(path, old)} if old is not None else set[str]()
    had = set(Versions(path, old, old, None, new).symbols(old)) - before
    for stub in stubs(path, new):
        if stub.name in before:
            continue
        replaced = stub.name in had
        text = (
            f"{path}:{stub.line}: `{stub.name}` is only `{stub.what}`"
            + (", it had code before" if replaced else "")
            + ". Write its body."
        )
        yield Finding(path, "stub", text, "hard" if replaced or stub.certain else "escalate", stub.line)


def _tests(
    path: str,
    old: bytes,
    new: bytes | None,
    changes: Sequence[Change],
    data: Callable[[Entry | None], bytes | None],
) -> Iterator[Finding]:
    cases = {case.name: case for case in test_cases(path, old)}
    if new is None:
        moved = [c for c in changes if c.new and c.old is None and data(c.new) == old]
        if not moved:
            text = f"{path}: this test file was deleted. Put it back; tests of others stay as they are."
            yield Finding(path, "test-deleted", text, "hard")
        return
    now = {case.name: case for case in test_cases(path, new)}
    for name, case in cases.items():
        if name in now:
            yield from compare(path, name, [case], now[name])
        else:
            text = f"{path}: test `{name}` was deleted. Put it back; mend the code instead."
            yield Finding(path, "test-deleted", text, "hard")


def _leftovers(git: Repo, scaffold: str, head: str, owned: Sequence[str]) -> Iterator[Finding]:
    before = git.entries(scaffold)
    now = git.entries(head)
    paths = [p for p in before if p in now and (not owned or owns(owned, p)) and now[p].regular]
    blobs = git.blobs(e.oid for p in paths for e in (before[p], now[p]) if e.regular)
    for path in paths:
        if not before[path].regular:
            continue
        planned = {stub.name for stub in stubs(path, blobs[before[path].oid]) if stub.certain}
        for stub in stubs(path, blobs[now[path].oid]):
            if stub.name in planned:
                text = (
                    f"{path}:{stub.line}: `{stub.name}` still is the scaffold's stub (`{stub.what}`). "
                    "It is in your paths: write its body."
                )
                yield Finding(path, "scaffold-stub", text, "hard", stub.line)
