"""Does a Python repository keep a declaration? Read from syntax trees, nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from swarmrun.api.plan import Contract, ContractKind
from swarmrun.code import python
from swarmrun.code.python_symbols import signature
from swarmrun.code.stubs import stubs
from swarmrun.planning import declarations
from swarmrun.planning.annotations import normal
from swarmrun.planning.signatures import incompatible
from swarmrun.planning.sources import Definition, Sources, bindings

_PLAIN_BASES = frozenset(
    {"object", "ABC", "Protocol", "Generic", "BaseModel", "NamedTuple", "TypedDict"}
    | {"Enum", "StrEnum", "IntEnum", "Flag", "IntFlag", "str", "int", "dict", "list"}
    | {"Exception", "BaseException", "ValueError", "KeyError", "LookupError", "RuntimeError", "TypeError"}
)
"""Bases that add no member a contract would name."""
_RECORDS = frozenset({"BaseModel", "NamedTuple", "TypedDict"})
Member = python.FunctionNode | ast.ClassDef | ast.stmt


@dataclass(frozen=True)
class Finding:
    expected: str
    found: str
    path: str
    line: int
    message: str


def findings(contract: Contract, sources: Sources, *, strict: bool = False) -> Iterator[Finding]:
    """`strict`: annotations and class bases may not be left out either (used to compare declarations)."""
    path = contract.path
    try:
        bindings(sources.get(path))
    except python.Unparsable as exc:
        yield Finding("Python that parses", str(exc), path, exc.line, f"{path} does not parse: {exc}")
        return
    try:
        wanted = declarations.tree(contract.declaration)
    except python.Unparsable:
        return  # said when the plan was scaffolded; nothing can be compared
    for node in wanted.body:
        for name in declarations.bound(node):
            definition = sources.find(path, name)
            if definition is None:
                text = _headline(node)
                yield Finding(text, "nothing", path, 1, f"`{text}` is missing in {path}")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _function(node, definition, name, strict)
            elif isinstance(node, ast.ClassDef):
                yield from _Class(contract, node, sources, strict).findings(definition)
    if not strict:
        yield from _leftovers(contract, wanted, sources)


def _headline(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return signature(node)
    return ast.unparse(node)


def _function(
    wanted: python.FunctionNode, definition: Definition, name: str, strict: bool, *, method: bool = False
) -> Iterator[Finding]:
    given = definition.node
    if isinstance(given, ast.ClassDef):
        yield Finding(
            signature(wanted),
            signature(given),
            definition.path,
            definition.line,
            f"`{name}` is a class, declared as a function",
        )
    elif isinstance(given, ast.FunctionDef | ast.AsyncFunctionDef):
        for problem in incompatible(wanted, given, method=method, strict=strict):
            yield Finding(
                signature(wanted), signature(given), definition.path, given.lineno, f"`{name}` {problem}"
            )
    elif strict:
        yield Finding(
            signature(wanted), "a value", definition.path, definition.line, f"`{name}` is no function"
        )


class _Class:
    """One declared class against what is there."""

    def __init__(self, contract: Contract, node: ast.ClassDef, sources: Sources, strict: bool) -> None:
        self.contract = contract
        self.node = node
        self.sources = sources
        self.strict = strict

    def findings(self, definition: Definition) -> Iterator[Finding]:
        given = definition.node
        path, line = definition.path, definition.line
        if not isinstance(given, ast.ClassDef):
            if isinstance(given, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Finding(
                    signature(self.node),
                    signature(given),
                    path,
                    line,
                    f"`{self.node.name}` is a function, declared as a class",
                )
            return  # bound to a value (`X = namedtuple(…)`, an import from elsewhere): it cannot be told
        members, all_known = self._members(path, given, 4)
        bases = {_last(b) for b in given.bases}
        for base in self.node.bases:
            name = _last(base)
            if name not in bases and (all_known or self.strict) and name not in self._bases(path, given, 4):
                yield Finding(
                    signature(self.node), signature(given), path, line, f"`{given.name}` is not a `{name}`"
                )
        record = _is_record(self.node)
        if record and not _is_record(given) and "__init__" not in members and not given.bases:
            yield Finding(
                signature(self.node),
                signature(given),
                path,
                line,
                f"`{given.name}` has lost its `{_last(_record_mark(self.node))}`: it cannot be constructed",
            )
        for statement in self.node.body:
            for name in declarations.bound(statement):
                found = members.get(name)
                if found is not None:
                    yield from self._member(path, name, statement, found)
                elif all_known and not (name == "__init__" and _is_record(given)):
                    text = _headline(statement)
                    yield Finding(
                        text, "nothing", path, line, f"`{self.node.name}.{name}` is missing: `{text}`"
                    )
        if record and self.contract.kind is ContractKind.DATA_MODEL:
            yield from self._record(path, given)

    def _member(self, path: str, name: str, wanted: ast.stmt, found: Member) -> Iterator[Finding]:
        full = f"{self.node.name}.{name}"
        here = Definition(path, getattr(found, "lineno", 1), found)
        if isinstance(wanted, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _function(wanted, here, full, self.strict, method=True)
            return
        if isinstance(wanted, ast.AnnAssign) and isinstance(found, ast.AnnAssign):
            mine, its = normal(wanted.annotation), normal(found.annotation)
            if mine != its:
                yield self._field(
                    path,
                    wanted,
                    found,
                    f"`{full}` is {_code(found.annotation)} instead of {_code(wanted.annotation)}",
                )
            if wanted.value is not None and found.value is None and _is_record(self.node):
                yield self._field(path, wanted, found, f"`{full}` has lost its default")
        values = [getattr(n, "value", None) for n in (wanted, found)]
        mine, its = values
        if (
            (self.strict or any(_last(b).endswith(("Enum", "Flag")) for b in self.node.bases))
            and isinstance(mine, ast.Constant)
            and mine.value is not ...
            and isinstance(its, ast.expr)
            and ast.unparse(mine) != ast.unparse(its)
        ):
            yield self._field(
                path, wanted, found, f"`{full}` is {ast.unparse(its)} instead of {ast.unparse(mine)}"
            )

    def _record(self, path: str, given: ast.ClassDef) -> Iterator[Finding]:
        """Fields that callers do not know must be optional, and known ones keep their order."""
        declared = [n for s in self.node.body if isinstance(s, ast.AnnAssign) for n in declarations.bound(s)]
        there: list[str] = []
        for statement in given.body:
            if not isinstance(statement, ast.AnnAssign):
                continue
            there += declarations.bound(statement)
            name = (declarations.bound(statement) or [""])[0]
            unknown = name and name not in declared and statement.value is None
            if unknown and not normal(statement.annotation).startswith("ClassVar"):
                message = f"`{given.name}` needs `{name}`, which callers do not know: give it a default"
                text = ast.unparse(statement)
                yield Finding(signature(self.node), text, path, statement.lineno, message)
        order = [name for name in there if name in declared]
        if order != [name for name in declared if name in order]:
            yield Finding(
                ", ".join(declared),
                ", ".join(order),
                path,
                given.lineno,
                f"the fields of `{given.name}` stand in another order",
            )

    def _field(self, path: str, wanted: ast.stmt, found: Member, message: str) -> Finding:
        return Finding(ast.unparse(wanted), _headline(found), path, getattr(found, "lineno", 1), message)

    def _members(self, path: str, node: ast.ClassDef, hops: int) -> tuple[dict[str, Member], bool]:
        """Members with those of bases in the repository, and whether every base could be looked into."""
        found: dict[str, Member] = {}
        known = True
        for base in reversed(node.bases):
            name = _last(base)
            definition = self.sources.find(path, name) if hops else None
            if definition is not None and isinstance(definition.node, ast.ClassDef):
                inherited, sure = self._members(definition.path, definition.node, hops - 1)
                found.update(inherited)
                known = known and sure
            elif name not in _PLAIN_BASES:
                known = False
        for statement in _statements(node.body):
            for name in declarations.bound(statement):
                found[name] = statement
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                for name, assignment in _attributes(statement):
                    found.setdefault(name, assignment)
        return found, known

    def _bases(self, path: str, node: ast.ClassDef, hops: int) -> set[str]:
        found: set[str] = set()
        for base in node.bases:
            name = _last(base)
            found.add(name)
            definition = self.sources.find(path, name) if hops else None
            if definition is not None and isinstance(definition.node, ast.ClassDef):
                found |= self._bases(definition.path, definition.node, hops - 1)
        return found


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            for block in python.blocks_of(node):
                yield from block


def _attributes(method: python.FunctionNode) -> Iterator[tuple[str, ast.stmt]]:
    """`self.x = …` anywhere in a method."""
    if not method.args.args:
        return
    me = method.args.args[0].arg
    for node in ast.walk(method):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            on_me = isinstance(target, ast.Attribute) and getattr(target.value, "id", "") == me
            if on_me and isinstance(target, ast.Attribute) and isinstance(node, ast.Assign | ast.AnnAssign):
                yield target.attr, node


def _last(node: ast.expr | None) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Subscript):
        node = node.value
    return getattr(node, "attr", getattr(node, "id", ""))


def _record_mark(node: ast.ClassDef) -> ast.expr | None:
    """What gives a class its constructor from its fields."""
    for mark in [*node.decorator_list, *node.bases]:
        if _last(mark) in _RECORDS | {"dataclass", "define", "frozen", "attrs", "s"}:
            return mark
    return None


def _is_record(node: ast.ClassDef) -> bool:
    return _record_mark(node) is not None


def _code(annotation: ast.expr | None) -> str:
    return f"`{ast.unparse(annotation)}`" if annotation is not None else "nothing"


def _leftovers(contract: Contract, wanted: ast.Module, sources: Sources) -> Iterator[Finding]:
    """Stubs of the scaffold that nobody filled."""
    for node, owner in declarations.functions(wanted):
        if declarations.without_body(node, owner) or not declarations.is_stub(node):
            continue
        top = owner.name if owner else node.name
        definition = sources.find(contract.path, top)
        if definition is None or definition.node is None:
            continue
        name = f"{owner.name}.{node.name}" if owner else node.name
        actual = getattr(definition.node, "name", top)
        name = name.replace(top, actual, 1)
        for stub in stubs(definition.path, sources.get(definition.path)):
            if stub.name == name and stub.certain:
                yield Finding(
                    signature(node),
                    stub.what,
                    definition.path,
                    stub.line,
                    f"`{name}` is still a stub (`{stub.what.strip()}`)",
                )
