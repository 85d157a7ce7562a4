"""Whole runs as real processes: slow, so few, and each looks at much."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The kill runs of bench/ use the same helpers; in importlib mode a test's own directory is not on the path.
sys.path.insert(0, str(Path(__file__).parent))

import lab as helpers

TIMEOUT = 900
"""Seconds for a test that says nothing else: more than all together that it waits for on a busy machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[helpers.Lab]:
    one = helpers.Lab(tmp_path)
    yield one
    one.close()
