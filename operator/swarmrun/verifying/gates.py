"""Gates: which there are, what they found, and what of that is new."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from swarmrun.api.base import clip
from swarmrun.api.run import Gate
from swarmrun.api.status import GateStatus
from swarmrun.code.tests import is_test
from swarmrun.verifying import outputs

MOST_LISTED = 20
"""Failures listed on the status per gate: it is bounded; the rest is counted."""

NO_TESTS = "no tests were collected"
"""The one failure of a run of pytest that found nothing to run."""

Why = Literal["", "tests", "missing", "timeout", "collection", "setup"]


@dataclass(frozen=True)
class GateOutcome:
    """One run of one gate. `failures` are ids that compare between commits."""

    gate: str
    passed: bool
    failures: list[str] = field(default_factory=list[str])
    why: Why = ""
    """What kind of failure: `missing` (its command is not there), `timeout`, `collection` (files that could
    not be loaded hide their tests), `setup` (the tool itself failed), `tests` (findings)."""
    message: str = ""
    required: bool = True


def detect(paths: Collection[str], read: Callable[[str], bytes]) -> list[Gate]:
    """Gates that the repository shows, for a run that names none. `read` gives the bytes of one of `paths`."""
    found: list[Gate] = []
    names = set(paths)
    python = any(p.endswith(".py") for p in paths)
    tests = any(is_test(p) and p.endswith(".py") for p in paths)

    def text(path: str) -> str:
        return read(path).decode("utf-8", "replace") if path in names else ""

    pyproject = text("pyproject.toml")
    if tests or "[tool.pytest" in pyproject or "pytest.ini" in names:
        found.append(Gate(name="pytest", command=_python_tool("pytest", "-q -rfE", probe="--version")))
    ruff = "[tool.ruff" in pyproject or bool(names & {"ruff.toml", ".ruff.toml"})
    if python:
        found.append(
            Gate(
                name="ruff",
                command=_python_tool("ruff", "check --output-format concise .", probe="--version"),
                # In a repository that does not configure it nobody asked for it: it is told, it caps
                # nothing, and files that the run has not touched stay as they are.
                fix=_python_tool("ruff", "check --fix --exit-zero --quiet .", probe="--version")
                if ruff
                else "",
                required=ruff,
            )
        )
    if _npm_test(text("package.json")):
        found.append(Gate(name="npm-test", command="npm test --silent"))
    if "go.mod" in names:
        found.append(Gate(name="go-test", command="go test ./..."))
        found.append(Gate(name="go-vet", command="go vet ./..."))
    if "Cargo.toml" in names:
        found.append(Gate(name="cargo-test", command="cargo test"))
    makefile = next((text(name) for name in ("Makefile", "makefile", "GNUmakefile") if name in names), "")
    # Where a language's own gate is known, `make test` would run the same tests once more.
    if all(gate.name == "ruff" for gate in found) and re.search(r"^test\s*:", makefile, re.MULTILINE):
        found.insert(0, Gate(name="make-test", command="make test"))
    return found


def _python_tool(tool: str, arguments: str, *, probe: str) -> str:
    """The module of the environment's Python where there is one, else the command on the PATH."""
    return (
        f"if python3 -m {tool} {probe} >/dev/null 2>&1; then python3 -m {tool} {arguments}; "
        f"else {tool} {arguments}; fi"
    )


def _npm_test(package: str) -> bool:
    try:
        data: object = json.loads(package or "{}")
    except ValueError:
        return False
    scripts = data.get("scripts") if isinstance(data, dict) else None
    script = scripts.get("test") if isinstance(scripts, dict) else None
    return isinstance(script, str) and bool(script.strip()) and "no test specified" not in script


_MISSING = re.compile(
    r"(?P<what>[\w./-]+): (?:command )?not found$|No module named '?(?P<module>pytest|ruff|unittest|mypy)'?$",
    re.MULTILINE,
)
_HIDDEN = re.compile(r"errors? during collection|ERROR collecting|\[build failed\]|Test suite failed to run")


def parse(gate: Gate, output: str, exit_code: int | None) -> GateOutcome:
    """What one run of a gate found. `exit_code` None: it was stopped at its time limit."""

    def outcome(failures: list[str], why: Why, message: str) -> GateOutcome:
        return GateOutcome(gate.name, False, failures, why, message, gate.required)

    if exit_code == 0:
        return GateOutcome(gate.name, True, required=gate.required)
    text = outputs.plain(output)
    if exit_code is None:
        return outcome(["timed out"], "timeout", f"stopped after {gate.timeout_seconds} s")
    missing = _MISSING.search(text)
    if exit_code in (126, 127) or (missing and missing["module"]):
        what = (missing and (missing["what"] or missing["module"])) or gate.command.split()[0]
        return outcome(
            ["cannot run"],
            "missing",
            f"{what} is not there (exit {exit_code}): install it or change the gate",
        )
    pytest = re.search(r"\bpytest\b", gate.command)
    if pytest and exit_code == 5:
        return outcome([NO_TESTS], "tests", "pytest found no tests")
    found = outputs.failures(gate.command, text)
    last = next((row.strip() for row in reversed(text.splitlines()) if row.strip()), "")
    if not found:
        # One stable id: what an unknown tool prints differs from run to run, and a base that is red
        # already must not count against the work.
        why: Why = "setup" if pytest and exit_code in (3, 4) else "tests"
        return outcome([f"exit {exit_code}"], why, clip(f"exit {exit_code}: {last}"))
    if _HIDDEN.search(text):
        return outcome(
            found, "collection", "files that cannot be loaded hide their tests: " + clip(last, 200)
        )
    return outcome(found, "tests", clip(last))


def without_empty(before: Sequence[GateOutcome], after: Sequence[GateOutcome]) -> list[GateOutcome]:
    """For gates that were detected: one that finds no tests fails nobody who never asked for tests. Where the
    base had some, they are gone, and that stays a failure."""
    had = {o.gate for o in before if o.failures != [NO_TESTS]}
    return [
        replace(o, passed=True, failures=[], why="") if o.failures == [NO_TESTS] and o.gate not in had else o
        for o in after
    ]


def new_failures(before: Sequence[GateOutcome], after: Sequence[GateOutcome]) -> dict[str, list[str]]:
    """Gate → failures that the base did not have; gates without any are left out. These are run once more."""
    known = {outcome.gate: set(outcome.failures) for outcome in before}
    found = {o.gate: [f for f in o.failures if f not in known.get(o.gate, ())] for o in after}
    return {gate: listed for gate, listed in found.items() if listed}


def compare(
    before: Sequence[GateOutcome], after: Sequence[GateOutcome], rerun: Sequence[GateOutcome] = ()
) -> list[GateStatus]:
    """`before`: on the base; `after`: on the result; `rerun`: the gates with new failures, once more.

    A gate passes when it has no failure that is new and stays: one that the second run does not show is
    flaky. A second run that could not look (time-out, missing command, hidden tests) clears nothing.
    """
    new = new_failures(before, after)
    again = {outcome.gate: outcome for outcome in rerun}
    earlier = {outcome.gate: outcome for outcome in before}
    result: list[GateStatus] = []
    for outcome in after:
        listed = new.get(outcome.gate, [])
        second = again.get(outcome.gate)
        flaky: list[str] = []
        if second is not None and second.why in ("", "tests"):
            flaky = [f for f in listed if f not in second.failures]
        stays = [f for f in listed if f not in flaky]
        base = [f for f in outcome.failures if f not in listed]
        was = earlier.get(outcome.gate)
        message = outcome.message
        if was is not None and was.why == "collection" and stays:
            message = clip(f"the base hid tests ({was.message}); some of these may be old. {message}")
        result.append(
            GateStatus(
                name=outcome.gate,
                required=outcome.required,
                passed=not stays,
                new_failures=_listed(stays),
                baseline_failures=_listed(base),
                flaky=_listed(flaky),
                message=clip(message),
            )
        )
    return result


def failing_required(gates: Sequence[GateStatus]) -> list[str]:
    """Names of the required gates that have new failures."""
    return [gate.name for gate in gates if gate.required and not gate.passed]


def _listed(failures: Sequence[str]) -> list[str]:
    shown = [clip(failure, 200) for failure in failures[:MOST_LISTED]]
    more = len(failures) - len(shown)
    return [*shown, f"… and {more} more"] if more > 0 else shown
