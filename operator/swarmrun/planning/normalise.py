"""A model's answer made into a plan. What it says is data from a stranger: mended where only one reading
makes sense (with a note), refused with an error for the planner where it is not. Never raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from pydantic import ValidationError

from swarmrun.api.base import clip
from swarmrun.api.plan import ContractKind, Plan, Role
from swarmrun.planning import loose
from swarmrun.planning.fields import Fields, Ids

_PLAN = {
    "summary": ("summary", "overview", "description"),
    "language": ("language", "lang"),
    "tasks": ("tasks", "subtasks", "steps"),
    "contracts": ("contracts", "interfaces"),
    "criteria": ("criteria", "rubric"),
}
_TASK = {
    "id": ("id", "taskid", "key", "name", "title"),
    "title": ("title", "name", "summary"),
    "role": ("role", "agentrole", "agent"),
    "instructions": ("instructions", "instruction", "description", "prompt", "details"),
    "owned_paths": ("ownedpaths", "owns", "ownedfiles", "files", "paths"),
    "depends_on": ("dependson", "dependencies", "deps", "requires", "after"),
    "provides": ("provides", "providescontracts", "produces"),
    "uses": ("uses", "usescontracts", "consumes"),
    "acceptance": ("acceptance", "acceptancecriteria", "acceptancechecks", "checks"),
    "skills": ("skills",),
    "estimate": ("estimate", "estimatedturns", "turns", "effort"),
}
_CONTRACT = {
    "id": ("id", "contractid", "key", "name"),
    "kind": ("kind", "type"),
    "path": ("path", "file", "filepath", "module"),
    "declaration": ("declaration", "declarations", "signature", "signatures", "code", "source", "content"),
    "description": ("description", "summary", "purpose"),
    "provided_by": ("providedby", "provider", "owner", "task"),
    "used_by": ("usedby", "consumers", "consumedby"),
}
_ACCEPTANCE = {
    "description": ("description", "criterion", "text", "check", "title", "name"),
    "command": ("command", "cmd", "run"),
}
_CRITERION = {
    "id": ("id", "key", "name"),
    "question": ("question", "description", "criterion", "text"),
    "weight": ("weight", "points"),
}
_KINDS = {
    **{loose.fold(kind): kind for kind in ContractKind},
    **dict.fromkeys(("func", "method", "signature"), ContractKind.FUNCTION),
    **dict.fromkeys(("service",), ContractKind.CLASS),
    **dict.fromkeys(
        ("model", "dataclass", "schema", "struct", "enum", "interface", "type", "protocol"),
        ContractKind.DATA_MODEL,
    ),
    **dict.fromkeys(("endpoint", "httproute", "api"), ContractKind.ROUTE),
    **dict.fromkeys(("layout", "config"), ContractKind.FILE),
}
_ROLES = {loose.fold(role): role for role in Role}
_ROUTE = re.compile(r"^\s*(GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS)\s+/")


@dataclass
class Normalised:
    """`plan` is None exactly when there are `errors`; those are written for the planner."""

    plan: Plan | None
    notes: list[str] = field(default_factory=list[str])
    """What was mended."""
    errors: list[str] = field(default_factory=list[str])


def normalise(raw: object) -> Normalised:
    """`raw` is parsed JSON, or text that holds some (bare, fenced, after thoughts), or a Plan."""
    reader = _Reader()
    document = reader.document(raw)
    if document is None:
        return Normalised(None, reader.notes, reader.errors)
    values = reader.plan(document)
    if not reader.errors:
        try:
            return Normalised(Plan.model_validate(values), reader.notes, [])
        except ValidationError as exc:
            # A rule of the schema that the reader does not know; said in the schema's own words.
            for error in exc.errors(include_url=False, include_input=False):
                where = ".".join(str(part) for part in error["loc"])
                reader.errors.append(f"{where}: {error['msg']}")
    return Normalised(None, reader.notes, reader.errors)


class _Reader(Fields):
    def __init__(self) -> None:
        super().__init__()
        self.lifted: list[dict[str, object]] = []
        """Contracts that stood inside a task."""

    # ------------------------------------------------------------ the document

    def document(self, raw: object) -> dict[str, object] | None:
        if isinstance(raw, Plan):
            raw = raw.dump()
        if isinstance(raw, bytes):
            raw = raw.decode("utf-8", "replace")
        if isinstance(raw, str):
            whole = loose.decoded(raw.strip())
            found = [whole] if not isinstance(whole, str) else loose.objects(raw)
            plans = [plan for item in found if (plan := self._unwrapped(item)) is not None]
            if found and not plans:
                raw = found[-1]
            elif not plans:
                self.errors.append(
                    'the answer holds no JSON object: answer with {"summary": …, "tasks": […], "contracts": […]}'
                )
                return None
            else:
                if not isinstance(loose.decoded(raw), dict):
                    self.notes.append("the plan was taken out of surrounding text")
                return plans[-1]
        plan = self._unwrapped(raw)
        if plan is None:
            self.errors.append('the answer has no "tasks": give a list of at least one task')
        return plan

    def _unwrapped(self, value: object, depth: int = 0) -> dict[str, object] | None:
        value = loose.decoded(value)
        items = loose.sequence(value)
        if items is not None:
            rows = [loose.mapping(item) for item in items]
            if len(items) == 1 and (inner := self._unwrapped(items[0], depth + 1) if depth < 4 else None):
                return inner
            if rows and all(row is not None and {"instructions", "title"} & row.keys() for row in rows):
                return {"tasks": items}
            return None
        body = loose.mapping(value)
        if body is None:
            return None
        folded = {loose.fold(key): key for key in body}
        if any(alias in folded for alias in _PLAN["tasks"]):
            return body
        if depth < 4:
            for key in ("plan", "result", "output", "arguments", "answer"):
                inner = self._unwrapped(body[folded[key]], depth + 1) if key in folded else None
                if inner is not None:
                    return inner
        return None

    def plan(self, document: dict[str, object]) -> dict[str, object]:
        body = self.fields(document, _PLAN, "the plan")
        tasks = [self.fields(row, _TASK, f"task {n}") for n, row in self.rows(body, "tasks", "Plan", "title")]
        if not tasks and not self.errors:
            self.errors.append("the plan has no tasks: give at least one")
        contracts = [
            self.fields(row, _CONTRACT, f"contract {n}")
            for n, row in self.rows(body, "contracts", "Plan", "declaration")
        ]
        self.name(tasks, self.tasks, "task")
        self.name(contracts, self.contracts, "contract")
        made_tasks = [self._task(row) for row in tasks]
        inner = [self.fields(row, _CONTRACT, "a contract inside a task") for row in self.lifted]
        inner = [row for row in inner if self.contracts.find(row.get("id")) not in self.contracts.taken]
        self.name(inner, self.contracts, "contract")
        by_id = {str(row["id"]): row for row in made_tasks}
        made_contracts = [self._contract(row, by_id) for row in [*contracts, *inner]]
        criteria = [
            self.fields(row, _CRITERION, f"criterion {n}")
            for n, row in self.rows(body, "criteria", "Plan", "question")
        ]
        self.name(criteria, Ids(), "criterion")
        return {
            "summary": self.text(body, "summary", "Plan", "the plan"),
            "language": self.text(body, "language", "Plan", "the plan").lower(),
            "tasks": made_tasks,
            "contracts": made_contracts,
            "criteria": [
                {
                    "id": row["id"],
                    "question": self.text(row, "question", "Criterion", f"criterion {row['id']}"),
                    "weight": self.number(row.get("weight"), f"criterion {row['id']}: weight", 10),
                }
                for row in criteria
            ],
        }

    # ------------------------------------------------------------ tasks and contracts

    def _task(self, row: dict[str, object]) -> dict[str, object]:
        own = str(row["id"])
        what = f"task {own}"
        depends = self._references(row, "depends_on", self.tasks, what)
        if own in depends:
            self.errors.append(f"{what} depends on itself: remove {own} from its dependsOn")
        return {
            "id": own,
            "title": self.text(row, "title", "Task", what) or own,
            "role": self._role(row.get("role"), what),
            "instructions": self.text(row, "instructions", "Task", what),
            "owned_paths": self._paths(row, what),
            "depends_on": depends,
            "provides": self._references(row, "provides", self.contracts, what, lift=own),
            "uses": self._references(row, "uses", self.contracts, what, lift=""),
            "acceptance": self._acceptance(row, what),
            "skills": self._references(row, "skills", Ids(), what),
            "estimate": self.number(row.get("estimate"), f"{what}: estimate", 10),
        }

    def _contract(self, row: dict[str, object], tasks: Mapping[str, dict[str, object]]) -> dict[str, object]:
        own = str(row["id"])
        what = f"contract {own}"
        for name, into in (("provided_by", "provides"), ("used_by", "uses")):
            for task in self._references(row, name, self.tasks, what):
                listed = cast("list[str]", tasks[task][into]) if task in tasks else None
                if listed is None:
                    self.errors.append(f"{what}: {name} names the unknown task {task}")
                elif own not in listed:
                    listed.append(own)
        declaration = loose.unfenced(
            self.text(row, "declaration", "Contract", what).replace("\r\n", "\n")
        ).strip("\n")
        path = _path(self.text(row, "path", "Contract", what))
        if not path:
            self.errors.append(f"{what} has no path: name the file that holds it")
        return {
            "id": own,
            "kind": self._kind(row.get("kind"), declaration, what),
            "path": path,
            "declaration": declaration,
            "description": self.text(row, "description", "Contract", what),
        }

    def _role(self, value: object, what: str) -> Role:
        value = self.single(value, f"{what}: role")
        word = loose.text(value).strip()
        if not word:
            return Role.CODER
        role = _ROLES.get(loose.fold(word))
        if role is None:
            known = ", ".join(Role)
            self.errors.append(f"{what}: unknown role {clip(word, 60)!r}; known roles: {known}")
            return Role.CODER
        if role != word:
            self.notes.append(f"{what}: role {clip(word, 60)!r} became {role!s}")
        return role

    def _kind(self, value: object, declaration: str, what: str) -> ContractKind:
        word = loose.text(self.single(value, f"{what}: kind")).strip()
        if word:
            kind = _KINDS.get(loose.fold(word))
            if kind is not None:
                if kind != word:
                    self.notes.append(f"{what}: kind {clip(word, 60)!r} became {kind!s}")
                return kind
            known = ", ".join(ContractKind)
            self.errors.append(f"{what}: unknown kind {clip(word, 60)!r}; known kinds: {known}")
            return ContractKind.FUNCTION
        if not declaration.strip():
            kind = ContractKind.FILE
        elif _ROUTE.match(declaration):
            kind = ContractKind.ROUTE
        elif re.search(r"^(export\s+)?(abstract\s+)?class\s", declaration, re.MULTILINE):
            kind = ContractKind.CLASS
        else:
            kind = ContractKind.FUNCTION
        self.notes.append(f"{what}: no kind given, taken for {kind!s}")
        return kind

    def _acceptance(self, row: dict[str, object], what: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []
        for item in self.list_of(row, "acceptance", "Task", what, clipped=True):
            body = loose.mapping(item)
            if body is None:
                body = {"description": item}
            part = self.fields(body, _ACCEPTANCE, f"{what}: acceptance")
            command = self.text(part, "command", "Acceptance", what)
            description = self.text(part, "description", "Acceptance", what) or clip(command, 500)
            if description.strip():
                found.append({"description": description, "command": command})
        return found

    def _paths(self, row: dict[str, object], what: str) -> list[str]:
        found: list[str] = []
        for item in self.list_of(row, "owned_paths", "Task", what):
            body = loose.mapping(item)
            value = body.get("path", body.get("file")) if body else item
            path = _path(loose.text(value))
            if len(path) > 200:
                self.errors.append(f"{what}: owned path {path[:60]}… is longer than 200 characters")
            elif path and path not in found:
                found.append(path)
        return found

    def _references(
        self, row: dict[str, object], name: str, ids: Ids, what: str, *, lift: str | None = None
    ) -> list[str]:
        """Ids out of ids, numbers, titles, or objects that hold one of these."""
        found: list[str] = []
        for item in self.list_of(row, name, "Task", what):
            body = loose.mapping(item)
            if body is not None:
                folded = {loose.fold(key): value for key, value in body.items()}
                keys = ("id", "task", "taskid", "contract", "contractid", "name", "title")
                written = next((folded[key] for key in keys if folded.get(key) is not None), None)
                if lift is not None and {"path", "file", "declaration", "signature"} & folded.keys():
                    self.lifted.append({**body, **({"providedBy": lift} if lift else {})})
                    self.notes.append(f"{what}: a contract given in {name} was moved to contracts")
            else:
                written = item
            target = ids.find(written)
            if not target:
                self.errors.append(
                    f"{what}: {name} holds {clip(loose.text(item), 60)!r}, which names nothing"
                )
            elif target in found:
                self.notes.append(f"{what}: {target} stood twice in {name}")
            else:
                if target != loose.text(written).strip() and target not in ids.taken:
                    self.notes.append(f"{what}: {name} {clip(loose.text(written), 60)!r} became {target!r}")
                found.append(target)
        return found


def _path(value: str) -> str:
    """`./a//b.py` → `a/b.py`; `a\\b` → `a/b`. Absolute paths stay so and are refused by the check."""
    path = re.sub(r"/{2,}", "/", value.strip().strip("`'\"").replace("\\", "/"))
    while path.startswith("./") and len(path) > 2:
        path = path[2:]
    return path
