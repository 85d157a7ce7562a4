"""CustomResourceDefinitions out of the pydantic models: `python -m swarmrun.api.crdgen DIRECTORY …`.

Kubernetes takes structural schemas only: no `$ref`, no `anyOf` with null, no `additionalProperties: false`
beside properties. What a schema cannot say is a CEL rule.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from swarmrun.api import GROUP, VERSION
from swarmrun.api.load import to_yaml
from swarmrun.api.run import SwarmRunSpec
from swarmrun.api.status import SwarmRunStatus
from swarmrun.api.swarmclass import SwarmClassSpec

Schema = dict[str, Any]

LIST_KEYS = ("id", "name", "task", "type", "tier", "round")
"""An item's identity, where it has one: such a list is a `list-type: map`. The first of these that is required
counts. A list without is atomic, and there a server-side apply that meets defaults inside items is never in sync:
those have none."""

_STARTED = "has(oldSelf.status) && has(oldSelf.status.startedAt)"


def _immutable(field: str, text: str) -> Schema:
    # `self.spec.?x == oldSelf.spec.?x` costs a hundredfold of the API server's budget.
    new, old = f"self.spec.{field}", f"oldSelf.spec.{field}"
    same = f"has({new}) == has({old}) && (!has({new}) || {new} == {old})"
    return {"rule": f"!({_STARTED}) || ({same})", "message": f"spec.{field} {text}"}


RUN_RULES: list[Schema] = [
    {
        "rule": "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",
        "message": "metadata.name must be a DNS label: lower-case letters, digits and dashes, at most 63",
    },
    _immutable("goal", "cannot change once the run has started: make another SwarmRun"),
    _immutable("repository", "cannot change once the run has started: make another SwarmRun"),
    _immutable("plan", "cannot change once the run has started: make another SwarmRun"),
    {
        "rule": "!(has(oldSelf.spec.cancel) && oldSelf.spec.cancel) || (has(self.spec.cancel) && self.spec.cancel)",
        "message": "spec.cancel cannot be taken back: make another SwarmRun",
    },
]


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False) -> Schema:
    column: Schema = {"name": name, "type": kind, "jsonPath": path}
    return column | {"priority": 1} if wide else column


RUN_COLUMNS = [
    _column("Phase", ".status.phase"),
    _column("Progress", ".status.progress"),
    _column("Score", ".status.score", "integer"),
    _column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
    _column("Age", ".metadata.creationTimestamp", "date"),
    _column("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
    _column("Repository", ".spec.repository.url", wide=True),
    _column("Branch", ".status.result.branch", wide=True),
    _column("Tokens", ".status.usage.tokens", "integer", wide=True),
    _column("Cost", ".status.usage.cost", wide=True),
]
CLASS_COLUMNS = [
    _column("Default", ".spec.default", "boolean"),
    _column("Model", ".spec.models.standard.model"),
    _column("Parallelism", ".spec.parallelism", "integer"),
    _column("Age", ".metadata.creationTimestamp", "date"),
]


def crds() -> dict[str, Schema]:
    """File name → CustomResourceDefinition."""
    run = _root("A goal and a repository; agents work on it, and one branch comes out.", SwarmRunSpec)
    status = structural(SwarmRunStatus) | {"default": {"observedGeneration": -1}}
    run["properties"]["status"] = {"description": "What was seen; written by the controller only."} | status
    run["x-kubernetes-validations"] = RUN_RULES
    cls = _root("What a platform team sets for runs: models, ceilings, defaults.", SwarmClassSpec)
    return {
        "swarmruns.yaml": _crd("SwarmRun", "swarmruns", "Namespaced", run, RUN_COLUMNS, ["swr"], status=True),
        "swarmclasses.yaml": _crd("SwarmClass", "swarmclasses", "Cluster", cls, CLASS_COLUMNS, ["swc"]),
    }


def _root(description: str, spec: type[BaseModel]) -> Schema:
    return {
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"`{GROUP}/{VERSION}`."},
            "kind": {"type": "string", "description": "The resource's kind."},
            "metadata": {"type": "object"},
            "spec": {"description": "What is wanted."} | structural(spec),
        },
    }


def _crd(
    kind: str,
    plural: str,
    scope: str,
    schema: Schema,
    columns: list[Schema],
    short: list[str],
    *,
    status: bool = False,
) -> Schema:
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema},
    }
    if status:
        version["subresources"] = {"status": {}}
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {**names, "shortNames": short, "categories": ["swarm"]},
            "versions": [version],
        },
    }


def structural(model: type[BaseModel]) -> Schema:
    """The model's schema as Kubernetes takes it. Raises ValueError for what cannot be said so."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(raw, raw.get("$defs", {}), ())


def _structural(schema: Schema, defs: Schema, above: tuple[str, ...]) -> Schema:
    s = {k: v for k, v in schema.items() if k not in ("title", "$defs")}
    if "$ref" in s:
        name = str(s.pop("$ref")).rpartition("/")[2]
        if name in above:
            raise ValueError(f"{name} contains itself: a CRD cannot say that")
        s = {**_structural(defs[name], defs, (*above, name)), **s}
    if "anyOf" in s:
        others = [a for a in s.pop("anyOf") if a.get("type") != "null"]
        if len(others) != 1:
            raise ValueError(f"a CRD cannot choose between {others}")
        s = {**_structural(others[0], defs, above), **s}
    if "const" in s:
        s["enum"] = [s.pop("const")]
    if s.get("default", 0) is None:
        del s["default"]
    if "description" in s:
        s["description"] = inspect.cleandoc(s["description"])
    if "properties" in s:
        s["properties"] = {k: _structural(v, defs, above) for k, v in s["properties"].items()}
    if isinstance(s.get("items"), dict):
        s["items"] = _structural(s["items"], defs, above)
        s |= _list_type(s["items"])
        if "x-kubernetes-list-type" not in s:
            s["items"] = _without_defaults(s["items"])
    if isinstance(s.get("additionalProperties"), dict):
        s["additionalProperties"] = _structural(s["additionalProperties"], defs, above)
        # The keys of a map are an enum in the models only.
        s.pop("propertyNames", None)
    else:
        s.pop("additionalProperties", None)
    if "enum" in s:
        s.setdefault("type", "string")
    if "type" not in s:
        raise ValueError(f"no type: {s}")
    return s


def _list_type(items: Schema) -> Schema:
    if items.get("type") != "object":
        return {}
    required = cast("list[str]", items.get("required", []))
    key = next((k for k in LIST_KEYS if k in required), "")
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]} if key else {}


def _without_defaults(schema: Schema) -> Schema:
    """For items of an atomic list. The model knows the default all the same, and the description tells it."""
    s = {k: v for k, v in schema.items() if k != "default"}
    if "properties" in s:
        s["properties"] = {k: _without_defaults(v) for k, v in s["properties"].items()}
    for below in ("items", "additionalProperties"):
        if isinstance(s.get(below), dict):
            s[below] = _without_defaults(s[below])
    return s


def write(directory: Path) -> list[Path]:
    """Writes every CRD; returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    head = "# Generated by `python -m swarmrun.api.crdgen`; do not edit.\n"
    made: list[Path] = []
    for name, crd in crds().items():
        made.append(directory / name)
        made[-1].write_text(head + to_yaml(crd), encoding="utf-8")
    return made


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m swarmrun.api.crdgen DIRECTORY …")
    for directory in sys.argv[1:]:
        for path in write(Path(directory)):
            print(path)
