"""The tests that docs/security.md names behind its claims are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TESTS = ROOT / "tests"
NAMED = re.findall(
    r"`((?:[a-z0-9]+/)*(?:unit/[a-z]+|test_[a-z0-9_]+(?:\.py(?:::[a-z0-9_]+)?)?))`",
    (ROOT / "docs/security.md").read_text(),
)
"""`unit/charts`, `operator/test_chart.py`, `test_git_pod.py::test_what_is_so`, or a test's name alone."""


def found(name: str) -> bool:
    path, _, test = name.partition("::")
    if not path.endswith(".py") and "/" not in path:
        return any(f"def {name}(" in file.read_text() for file in (TESTS / "cluster").rglob("test_*.py"))
    place = TESTS / path if path.startswith(("unit/", "e2e/")) else TESTS / "cluster" / path
    return place.exists() and (not test or f"def {test}(" in place.read_text())


@pytest.mark.parametrize("name", sorted(set(NAMED)))
def test_a_test_that_is_named_exists(name: str) -> None:
    assert found(name), f"docs/security.md names {name}, and there is no such test"


def test_names_are_read() -> None:
    assert len(set(NAMED)) > 20
    assert not found("test_git_pod.py::test_that_is_none")
    assert not found("unit/sandbox/test_that_is_none.py")
