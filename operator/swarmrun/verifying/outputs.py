"""Ids of what failed, out of what tools print.

Ids carry no line numbers, times or counts, so that those of two commits compare. Formats as printed by
pytest 8, ruff 0.9, unittest of Python 3.11, jest 29, vitest 2, mocha 10, node 20, go 1.22, cargo 1.7x, tsc 5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
_TIME = re.compile(r"\s*[\[(]?\b\d+(\.\d+)?\s?(ms|s|m|µs)\b[\])]?\s*$")


def plain(output: str) -> str:
    """Without colours and carriage returns."""
    return _ANSI.sub("", output).replace("\r\n", "\n").replace("\r", "\n")


def failures(command: str, output: str) -> list[str]:
    """What failed, in the order of the output; empty when no known tool printed it.

    The readers that the command names are asked first; a wrapper (`make test`, `npm test`) hides the tool,
    so then all are.
    """
    text = plain(output)
    named = [reader for word, reader in _READERS if re.search(word, command)]
    for readers in (named, [reader for _, reader in _READERS]):
        found = [identity for reader in readers for identity in reader(text)]
        if found:
            return _numbered(found)
    return []


def _numbered(found: list[str]) -> list[str]:
    """The same finding twice in one file is two findings; the same test told twice is one."""
    seen: dict[str, int] = {}
    result: list[str] = []
    for identity in found:
        linted = identity.startswith("lint: ")
        identity = identity.removeprefix("lint: ")
        seen[identity] = seen.get(identity, 0) + 1
        if seen[identity] == 1:
            result.append(identity)
        elif linted:
            result.append(f"{identity} #{seen[identity]}")
    return result


_PYTEST = re.compile(
    r"^(?P<word>FAILED|ERROR|SUBFAILED\S*) (?P<id>[^\s:]+\.\w+(?:::[^\[\n]*?(?:\[.*?\])?)?)(?: - .*)?$",
    re.MULTILINE,
)
_PYTEST_LIVE = re.compile(r"^(?P<id>\S+\.py::\S.*?) (?:FAILED|ERROR)(?:\s+\[\s*\d+%\])?$", re.MULTILINE)
_PYTEST_COLLECTING = re.compile(r"^_+ ERROR collecting (?P<id>.+?) _+$", re.MULTILINE)


def pytest(text: str) -> Iterator[str]:
    summary = list(_PYTEST.finditer(text.rpartition("short test summary info")[2]))
    for match in summary:
        yield ("ERROR " if match["word"] == "ERROR" else "") + match["id"]
    if not summary:
        yield from (m["id"] for m in _PYTEST_LIVE.finditer(text))
        yield from (f"ERROR {m['id']}" for m in _PYTEST_COLLECTING.finditer(text))


_UNITTEST = re.compile(r"^(?:FAIL|ERROR): (\w+) \(([\w.]+)\)(?: [\[(](.*)[\])])?", re.MULTILINE)


def unittest(text: str) -> Iterator[str]:
    for name, where, sub in _UNITTEST.findall(text):
        # Since Python 3.11 the method's name stands at the end of the bracket, too.
        whole = where if where.endswith(f".{name}") else f"{where}.{name}"
        yield whole + (f" [{sub}]" if sub else "")


_CONCISE = re.compile(
    r"^(?P<path>[^\s:][^:\n]*\.\w+):\d+:\d+:? (?P<code>[A-Z]{1,6}\d{1,5}|[a-z]+(?:-[a-z]+)+):? (?P<text>.+)$",
    re.MULTILINE,
)
_RUFF_FULL = re.compile(
    r"^(?P<code>[A-Z]{1,6}\d{2,5}|[a-z]+(?:-[a-z]+)+):? (?P<text>.+)\n\s*--> (?P<path>[^:\n]+):\d+:\d+",
    re.MULTILINE,
)
_RUFF_SYNTAX = re.compile(r"^(?P<path>[^\s:][^:\n]*\.py):\d+:\d+: (?P<text>SyntaxError: .+)$", re.MULTILINE)


def ruff(text: str) -> Iterator[str]:
    """flake8 and pycodestyle print the same rows."""
    for pattern in (_CONCISE, _RUFF_FULL):
        for match in pattern.finditer(text):
            message = re.sub(r"^\[\*\] ", "", match["text"]).replace("`", "").strip()
            yield f"lint: {match['path']} {match['code']} {message}"
    for match in _RUFF_SYNTAX.finditer(text):
        yield f"lint: {match['path']} {match['text']}"


_MYPY = re.compile(r"^\s*(?P<path>[^\s:][^:\n]*\.pyi?):\d+(?::\d+)?:? ?-? error: (?P<text>.+)$", re.MULTILINE)


def mypy(text: str) -> Iterator[str]:
    """pyright prints nearly the same rows."""
    yield from (f"lint: {m['path']} {m['text'].strip()}" for m in _MYPY.finditer(text))


_TSC = re.compile(
    r"^(?P<path>\S[^\n(]*?\.[cm]?[jt]sx?)(?:\(\d+,\d+\):|:\d+:\d+ -) error (?P<code>TS\d+): (?P<text>.+)$",
    re.MULTILINE,
)


def tsc(text: str) -> Iterator[str]:
    yield from (f"lint: {m['path']} {m['code']} {m['text'].strip()}" for m in _TSC.finditer(text))


_JEST = re.compile(r"^\s+● (?P<id>.+?)\s*$", re.MULTILINE)
_VITEST = re.compile(r"^\s*(?:FAIL)\s+(?P<id>\S+\.[cm]?[jt]sx?(?: > .+?)?)(?: \[.*\])?\s*$", re.MULTILINE)
_MOCHA = re.compile(
    r"^  \d+\) (?P<suite>\S.*)\n(?P<rest>(?:^ {6,}\S.*\n)*?^ {6,}(?P<last>.+):\n)", re.MULTILINE
)
_TAP = re.compile(r"^\s*not ok \d+(?: -)? (?P<id>.+?)\s*$", re.MULTILINE)
_NODE = re.compile(r"^\s*✖ (?P<id>.+?)\s*$", re.MULTILINE)


def javascript(text: str) -> Iterator[str]:
    """jest, vitest, mocha, TAP and node's own runner."""
    bullets = [m["id"] for m in _JEST.finditer(text) if "Console" not in m["id"]]
    yield from (b for b in bullets if not b.startswith("Test suite failed"))
    yield from (m["id"] for m in _VITEST.finditer(text) if " > " in m["id"] or not bullets)
    for match in _MOCHA.finditer(text):
        inner = [row.strip().rstrip(":") for row in match["rest"].splitlines()]
        yield " ".join([match["suite"].strip(), *inner])
    for match in _TAP.finditer(text):
        if not re.search(r"# (TODO|SKIP)", match["id"]):
            yield match["id"]
    for match in _NODE.finditer(text):
        name = _TIME.sub("", match["id"])
        if name != "failing tests:":
            yield name


_GO_TEST = re.compile(
    r"^\s*--- FAIL: (?P<test>\S+)|^FAIL[ \t]+(?P<package>\S+)(?P<build> \[.*\])?", re.MULTILINE
)
_GO_VET = re.compile(r"^(?:vet: )?(?:\./)?(?P<path>\S+\.go):\d+(?::\d+)?: (?P<text>.+)$", re.MULTILINE)


def go(text: str) -> Iterator[str]:
    """Tests with their package, packages that do not build, findings of vet and of the compiler."""
    waiting: list[str] = []
    for match in _GO_TEST.finditer(text):
        if match["test"]:
            waiting.append(match["test"])
        elif waiting:
            yield from (f"{match['package']}.{test}" for test in waiting)
            waiting = []
        else:
            yield f"{match['package']}{match['build'] or ''}".replace("\t", " ")
    yield from waiting
    if "--- FAIL" not in text:
        # Rows of t.Errorf look the same; they belong to a test that was named already.
        yield from (f"lint: {m['path']} {m['text'].strip()}" for m in _GO_VET.finditer(text))


_CARGO = re.compile(r"^test (?P<id>\S.*?) \.\.\. FAILED$", re.MULTILINE)
_CARGO_LISTED = re.compile(r"^failures:\n(?P<ids>(?:    \S+\n)+)", re.MULTILINE)
_RUSTC = re.compile(
    r"^error(?P<code>\[E\d+\])?: (?P<text>.+)\n\s*--> (?P<path>[^:\n]+):\d+:\d+", re.MULTILINE
)


def cargo(text: str) -> Iterator[str]:
    yield from (m["id"] for m in _CARGO.finditer(text))
    for match in _CARGO_LISTED.finditer(text):  # all there is with --quiet
        yield from match["ids"].split()
    for match in _RUSTC.finditer(text):
        yield f"lint: {match['path']} {(match['code'] or '').strip('[]')} {match['text'].strip()}".replace(
            "  ", " "
        )


_READERS: list[tuple[str, Callable[[str], Iterator[str]]]] = [
    (r"\bpytest\b|\bpy\.test\b|\btox\b|\bnox\b", pytest),
    (r"\bunittest\b|manage\.py test", unittest),
    (r"\bruff\b|\bflake8\b|\bpycodestyle\b", ruff),
    (r"\bmypy\b|\bpyright\b", mypy),
    (r"\btsc\b", tsc),
    (r"\bgo (test|vet|build)\b", go),
    (r"\bcargo\b", cargo),
    (r"\b(jest|vitest|mocha|node|npm|npx|yarn|pnpm|bun)\b", javascript),
]
