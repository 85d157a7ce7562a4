"""Measures the merging room over histories that the caller names.

    python bench/merge_bench.py [--out build/bench] [--seed 1] REPOSITORY …

Every two-parent merge of the repositories' branches and tags is made again; the human's result is the answer.
Prints a table and writes `merge.json`: a list of {"name", "value", "unit", "goal", "met", "note"}.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import merge_cases_structured as structured
from merge_cases import Replayed, collect
from merge_damage import COUNTED, DAMAGE, damaged

from swarmrun.api.plan import Plan
from swarmrun.code.parse import syntax_errors
from swarmrun.merging import guards, ladder, order
from swarmrun.merging.cases import Case
from swarmrun.merging.diff3 import Hunk, diff3
from swarmrun.merging.guards.files import inspect
from swarmrun.merging.guards.finding import Versions
from swarmrun.planning import contracts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repositories", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    cases: list[tuple[Path, Replayed]] = []
    for path in arguments.repositories:
        cases += [(path, case) for case in collect(path, arguments.out / "cache")]
        print(f"{path}: {len(cases)} conflicting files so far", file=sys.stderr)
    if cases:
        rows += _ladder([case for _, case in cases])
        rows += _guards(cases, arguments.seed)
    rows += [_structured(arguments.seed), _eight_branches(), _contracts()]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "merge.json").write_text(json.dumps(rows, indent=2) + "\n")
    for row in rows:
        met = {True: "met", False: "not met", None: ""}[row["met"]]
        print(f"{row['name']:<58} {row['value']:>9} {row['unit']:<3} {row['goal']:<9} {met:<8} {row['note']}")
    return 0


def _row(name: str, value: float, unit: str, goal: str = "", note: str = "") -> dict[str, Any]:
    """`goal` is `<= 6` or `>= 70`, or empty for what is only told."""
    met = None
    if goal:
        bound = float(goal.split()[1])
        met = value <= bound if goal.startswith("<=") else value >= bound
    return {"name": name, "value": round(value, 2), "unit": unit, "goal": goal, "met": met, "note": note}


# ---------------------------------------------------------------- ladder


def _ladder(cases: list[Replayed]) -> list[dict[str, Any]]:
    python = [case for case in cases if case.path.endswith(".py")]
    mixed = [case for case in python if case.mixed]
    how: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    own = both = 0
    seconds: list[float] = []
    for case in python:
        start = time.perf_counter()
        solved = ladder.resolve(Case(case.path, case.base, case.ours, case.theirs))
        seconds.append(time.perf_counter() - start)
        if solved is None or not case.mixed:
            continue
        name = solved[1].how
        how[name] += 1
        equal[name] += same(solved[0], case.human)
        if _predictable(case):
            both += 1
            own += same(solved[0], case.human)
    total, right = sum(how.values()), sum(equal.values())
    steps = ", ".join(f"{name} {equal[name]}/{count}" for name, count in how.most_common())
    return [
        _row(
            "conflicting Python files", len(python), "", note=f"{len(mixed)} of them really mixed by humans"
        ),
        _row(
            "really mixed files resolved",
            100 * total / max(len(mixed), 1),
            "%",
            ">= 70",
            f"{total} of {len(mixed)}",
        ),
        _row(
            "of those equal to the human's",
            100 * right / max(total, 1),
            "%",
            ">= 80",
            f"white space, order, AST aside; equal/resolved by step: {steps}",
        ),
        _row(
            "… where the human only put the sides together",
            100 * own / max(both, 1),
            "%",
            note=f"{both} files: no line of the human's own, and nothing undone that had merged cleanly",
        ),
        _row("cost per conflicting file, p50", 1000 * statistics.median(seconds), "ms", "<= 60"),
    ]


def _lines(data: bytes) -> list[bytes]:
    return [line for row in data.splitlines() if (line := b"".join(row.split()))]


def _predictable(case: Replayed) -> bool:
    """No merge can guess a line that neither side has, or that a cleanly merged line was dropped."""
    three = Case(case.path, case.base, case.ours, case.theirs)
    if not three.mergeable:
        return False
    human = set(_lines(case.human))
    parts = diff3(*three.lines)
    settled = "".join("".join(p.items) for p in parts if not isinstance(p, Hunk))
    return human <= {*_lines(case.ours), *_lines(case.theirs)} and set(_lines(three.encode(settled))) <= human


def same(result: bytes, human: bytes) -> bool:
    """Equal up to white space, the order of lines or declarations and names of an import, or in the AST."""
    if sorted(_lines(result)) == sorted(_lines(human)):
        return True
    try:
        return _canonical(ast.parse(result).body) == _canonical(ast.parse(human).body)
    except (SyntaxError, ValueError, RecursionError):
        return False


def _canonical(body: list[ast.stmt]) -> list[str]:
    """Declarations of a module or class in an order of their own; statements of functions keep theirs."""
    found: list[str] = []
    for node in body:
        if isinstance(node, ast.Import):
            found += [f"import {a.name} {a.asname}" for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"from {node.level} {node.module} import {a.name} {a.asname}" for a in node.names]
        elif isinstance(node, ast.ClassDef):
            inner = _canonical(node.body)
            node.body = []
            found.append(ast.dump(node) + "\n".join(inner))
        else:
            found.append(ast.dump(node))
    return sorted(found)


# ---------------------------------------------------------------- guards


def _guards(cases: list[tuple[Path, Replayed]], seed: int) -> list[dict[str, Any]]:
    mixed = [(path, case) for path, case in cases if case.path.endswith(".py") and case.mixed]
    stopped: Counter[str] = Counter()
    alarms = proven = 0
    passed: list[Replayed] = []
    by_merge: dict[tuple[Path, str], list[Replayed]] = defaultdict(list)
    for path, case in mixed:
        by_merge[path, case.merge].append(case)
    for (path, merge), files in by_merge.items():
        ours, theirs = files[0].parents
        names = [case.path for case in files]
        found = guards.check(path, merge, ours=ours, theirs=theirs, paths=names)
        for case in files:
            kinds = {f.kind for f in found if f.severity == "hard" and f.path == case.path}
            if kinds:
                alarms += 1
                proven += bool(kinds & {"parse", "undefined-name", "duplicate", "conflict-marker"})
                stopped.update(kinds)
            else:
                passed.append(case)
    rows = [
        _row(
            "human resolutions stopped by the hard gate",
            100 * alarms / max(len(mixed), 1),
            "%",
            "<= 6",
            f"{alarms} of {len(mixed)}; {proven} of them do not parse, define a name twice or use one that "
            f"nobody defines: {dict(stopped.most_common(6))}",
        )
    ]
    shares: dict[str, float] = {}
    for kind in DAMAGE:
        done = caught = 0
        for case in passed:
            bad = damaged(case, kind, seed)
            if bad is None or _lines(bad) == _lines(case.human):
                continue
            done += 1
            versions = Versions(case.path, case.base, case.ours, case.theirs, bad)
            caught += any(f.severity == "hard" for f in inspect(versions))
        shares[kind] = 100 * caught / max(done, 1)
        told = "" if kind in COUNTED else ", told, not counted: often it is the human's answer"
        rows.append(_row(f"caught: {kind}", shares[kind], "%", note=f"{caught} of {done}{told}"))
    counted = [shares[kind] for kind in COUNTED]
    rows.append(_row("damage caught, mean", statistics.mean(counted), "%", ">= 95"))
    rows.append(_row("damage caught, worst", min(counted), "%", ">= 80"))
    return rows


# ---------------------------------------------------------------- generated


def _structured(seed: int) -> dict[str, Any]:
    cases = structured.generate(400, seed)
    resolved = right = broken = 0
    for case in cases:
        three = Case(case.path, case.base.encode(), case.ours.encode(), case.theirs.encode())
        solved = ladder.resolve(three)
        if solved is None:
            continue
        resolved += 1
        broken += bool(syntax_errors(case.path, solved[0]))
        right += structured.read(case.path, solved[0].decode()) == case.expected
    note = f"{resolved} of {len(cases)} generated conflicts resolved, {right} of them right, {broken} do not parse"
    return _row("manifests and settings resolved rightly", 100 * right / len(cases), "%", note=note)


def _eight_branches() -> dict[str, Any]:
    """Eight branches over 200 files, clean: predicted, ordered and merged."""
    with tempfile.TemporaryDirectory() as folder:
        repo = Path(folder)

        def git(*args: str) -> str:
            command = ["git", "-C", folder, "-c", "user.name=b", "-c", "user.email=b@localhost", *args]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

        git("init", "-q", "-b", "main")
        for n in range(200):
            (repo / f"m{n}.py").write_text(f"def f{n}(x):\n    return x + {n}\n")
        git("add", ".")
        git("commit", "-qm", "base")
        heads = {"main": git("rev-parse", "HEAD")}
        for n in range(8):
            git("checkout", "-q", "-b", f"t{n}", "main")
            for k in range(5):
                (repo / f"m{n * 5 + k}.py").write_text(f"def f{n}(x):\n    return x * {n}\n")
            git("commit", "-qam", f"t{n}")
            heads[f"t{n}"] = git("rev-parse", "HEAD")
        start = time.perf_counter()
        matrix = order.predict(repo, heads)
        ours = heads["main"]
        for name in order.order(matrix, "main", [f"t{n}" for n in range(8)]):
            ours = ladder.merge(repo, ours, heads[name], message=f"Merge {name}").commit
        return _row(
            "clean merge of 8 branches, predicted and ordered", time.perf_counter() - start, "s", "<= 1"
        )


def _contracts() -> dict[str, Any]:
    """50 contracts looked for among 500 files, imports included."""
    files = {
        f"app/m{n}.py": f"from app import m{(n + 1) % 500}\n\n\ndef f{n}(a: int, *, b: str = '') -> str:\n"
        f"    return b * a + str(m{(n + 1) % 500})\n".encode()
        for n in range(500)
    }
    files["app/__init__.py"] = b""
    ids = [f"c{n}" for n in range(50)]
    plan = Plan.model_validate(
        {
            "summary": "bench",
            "contracts": [
                {
                    "id": name,
                    "kind": "function",
                    "path": f"app/m{n * 10}.py",
                    "declaration": f"def f{n * 10}(a: int, *, b: str = '') -> str: ...",
                }
                for n, name in enumerate(ids)
            ],
            "tasks": [
                {
                    "id": "t",
                    "title": "t",
                    "role": "coder",
                    "instructions": "t",
                    "ownedPaths": ["app/"],
                    "provides": ids,
                }
            ],
        }
    )
    start = time.perf_counter()
    breaches = contracts.verify(plan, files.__getitem__, list(files))
    seconds = time.perf_counter() - start
    return _row(
        "contract check of 50 contracts over 500 files", seconds, "s", "<= 2", f"{len(breaches)} breaches"
    )


if __name__ == "__main__":
    raise SystemExit(main())
