"""The generated CRDs: up to date, structural, and describing every field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from swarmrun.api.crdgen import crds, write

CRDS = Path(__file__).parents[3] / "crds"


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from nodes(below, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


def schemas() -> list[tuple[str, dict[str, Any]]]:
    return [
        (path, node)
        for crd in crds().values()
        for path, node in nodes(
            crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], crd["spec"]["names"]["kind"]
        )
    ]


def test_the_committed_files_are_what_the_models_say(tmp_path: Path) -> None:
    for path in write(tmp_path):
        assert (CRDS / path.name).read_text() == path.read_text(), (
            f"run: python -m swarmrun.api.crdgen {CRDS.name}"
        )


def test_schemas_are_structural() -> None:
    for path, node in schemas():
        assert node["type"], path
        assert not node.keys() & {
            "$ref",
            "anyOf",
            "oneOf",
            "allOf",
            "$defs",
            "title",
            "const",
            "propertyNames",
        }, path
        assert not ({"properties", "additionalProperties"} <= node.keys()), path
        assert node.get("default", 0) is not None, path


def test_lists_of_objects_are_maps_by_their_key() -> None:
    found = {p: n.get("x-kubernetes-list-map-keys") for p, n in schemas() if n["type"] == "array"}
    assert found["SwarmRun.spec.plan.tasks"] == ["id"]
    assert found["SwarmRun.spec.gates"] == ["name"]
    assert found["SwarmRun.status.agents"] == ["task"]
    assert found["SwarmRun.status.conditions"] == ["type"]
    assert found["SwarmRun.spec.plan.tasks[].ownedPaths"] is None


def test_nothing_below_an_atomic_list_of_objects_has_a_default() -> None:
    """The API server would add it, and a server-side apply of the whole list would take it away again."""
    atomic = [
        (path, node["items"])
        for path, node in schemas()
        if node["type"] == "array"
        and node["items"]["type"] == "object"
        and node.get("x-kubernetes-list-type") != "map"
    ]
    assert {path for path, _ in atomic} >= {
        "SwarmRun.spec.plan.tasks[].acceptance",
        "SwarmRun.spec.sandbox.egress.allow",
        "SwarmRun.status.merges[].files",
    }
    assert [p for path, items in atomic for p, node in nodes(items, f"{path}[]") if "default" in node] == []


def test_started_runs_keep_goal_repository_and_plan_and_cancel_stays() -> None:
    schema = crds()["swarmruns.yaml"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rules = [r["rule"] for r in schema["x-kubernetes-validations"]]
    for field in ("goal", "repository", "plan"):
        assert any(f"self.spec.{field} == oldSelf.spec.{field}" in r and "startedAt" in r for r in rules)
    assert any("cancel" in r for r in rules)


def test_files_hold_no_anchors() -> None:
    for name in crds():
        text = (CRDS / name).read_text()
        assert not any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text))


@pytest.mark.parametrize("kind", ["SwarmRun", "SwarmClass"])
def test_every_field_is_described(kind: str) -> None:
    missing = [
        path
        for path, node in schemas()
        if path.startswith(f"{kind}.")
        and not path.endswith("[]")
        and path != f"{kind}.metadata"
        and not node.get("description")
    ]
    assert missing == []


@pytest.mark.parametrize("kind", ["SwarmRun", "SwarmClass"])
def test_what_may_be_left_out_says_what_holds_then(kind: str) -> None:
    """Of an object its fields say so."""
    silent = [
        f"{path}.{name}"
        for path, node in schemas()
        if path.startswith(f"{kind}.spec")
        for name, field in node.get("properties", {}).items()
        if name not in node.get("required", [])
        and "properties" not in field
        and not re.search(r"\b(default|absent|at least one)\b", field["description"], re.IGNORECASE)
    ]
    assert silent == []
