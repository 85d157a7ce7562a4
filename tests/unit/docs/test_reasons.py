"""Every reason that somebody can meet is explained."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmrun import errors
from swarmrun.controller import conditions
from swarmrun.kube import api, loss

ROOT = Path(__file__).parents[3]
STATES = {"PodState", "SandboxState"}
GROUPS = {errors.SwarmRunError, errors.TransientError, errors.PermanentError}
"""Never raised themselves."""
NOT_SHOWN = {
    "AlreadyExists",  # caught where something is made twice
    "Ending",  # asked again, it is lost
    "Created",  # of a sandbox that was made just now
    "Ended",  # of a process whose sandbox is then lost
    "NotDeterministic",  # of a developer's tests that replay
    "HistoryIncomplete",
}


def documented() -> set[str]:
    pages = [ROOT / "docs/troubleshooting.md", ROOT / "docs/operations.md"]
    return {word for page in pages for word in re.findall(r"`([A-Z][A-Za-z]+)`", page.read_text())}


def reasons(tree: ast.AST) -> Iterator[str]:
    """Texts given as `reason=…`, assigned to `….reason`, or second in a state of a Pod."""
    for node in ast.walk(tree):
        given: list[ast.expr] = []
        if isinstance(node, ast.Call):
            given += [k.value for k in node.keywords if k.arg == "reason"]
            if isinstance(node.func, ast.Name) and node.func.id in STATES:
                given += node.args[1:2]
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                both = (target, node.value)
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=True))
                else:
                    pairs = [both]
                names = [(getattr(t, "attr", getattr(t, "id", "")), v) for t, v in pairs]
                given += [value for name, value in names if name == "reason"]
        for expression in given:
            for part in ast.walk(expression):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def known() -> dict[str, str]:
    """Reason → where it is from."""
    found: dict[str, str] = {}
    for path in (ROOT / "operator/swarmrun").rglob("*.py"):
        for reason in reasons(ast.parse(path.read_text())):
            if re.fullmatch(r"[A-Z][a-z]*[A-Za-z]+", reason):
                found.setdefault(reason, str(path.relative_to(ROOT)))
    found |= dict.fromkeys(loss._REFUSED.values(), "kube/loss.py")
    found |= dict.fromkeys(loss._PULLING, "kube/loss.py")
    found |= dict.fromkeys((reason for _, reason in api._FORBIDDEN), "kube/api.py")
    found |= dict.fromkeys((reason for reason, _ in conditions._WAITS.values()), "controller/conditions.py")
    for cls in vars(errors).values():
        if isinstance(cls, type) and issubclass(cls, errors.SwarmRunError) and cls not in GROUPS:
            found.setdefault(cls.__name__, "errors.py")
    return found


def test_every_reason_in_the_code_is_in_the_documentation() -> None:
    missing = {r: where for r, where in known().items() if r not in documented() | NOT_SHOWN}
    assert not missing


def test_the_collection_sees_the_ways_in_which_reasons_are_given() -> None:
    assert {
        "EngineUnreachable",
        "SwarmClassNotFound",
        "NetworkPolicyNotEnforced",
        "OOMKilled",
        "QuotaExceeded",
        "WaitingForModel",
        "PublishRefused",
        "DiskFull",
        "InternalError",
    } <= known().keys()


@pytest.mark.parametrize("word", ["SwarmRunError"])
def test_what_nobody_raises_is_not_asked_for(word: str) -> None:
    assert word not in known()
