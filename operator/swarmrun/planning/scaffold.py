"""The contracts as code: the one commit that every sandbox starts from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from swarmrun.api.plan import Contract, ContractKind, Plan
from swarmrun.code import python
from swarmrun.code.languages import language
from swarmrun.planning import declarations, layout, python_scaffold, tree_scaffold


@dataclass
class Scaffold:
    """`files`: path → whole content, only those that are new or changed. Nothing is written when there are
    `errors`; they are written for the planner."""

    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    errors: list[str] = field(default_factory=list[str])


def concerned(plan: Plan) -> list[str]:
    """Paths whose content `scaffold` must be given where the repository holds them."""
    return sorted({c.path for c in plan.contracts} | set(layout.MANIFESTS))


def scaffold(
    plan: Plan, existing: Mapping[str, bytes], *, empty: bool, paths: Collection[str] = ()
) -> Scaffold:
    """`existing`: content of the `concerned` paths that the repository holds; `paths`: all of its paths.

    Existing files are added to, never overwritten. An empty repository also gets manifest, test
    configuration and ignore file. Languages without a table in `tree_scaffold` get their data models and
    files as they are declared, and no stubs: there the contract stands in the prompts only.
    """
    result = Scaffold()
    known = set(paths) | set(existing)
    by_path: dict[str, list[Contract]] = {}
    for contract in plan.contracts:
        if _is_code(contract):
            by_path.setdefault(contract.path, []).append(contract)
        elif contract.kind is ContractKind.FILE and contract.declaration.strip():
            _file(result, contract, existing)
    homes = _homes(plan)
    for path, contracts in by_path.items():
        _source(result, path, contracts, existing.get(path), homes)
    if result.errors:
        result.files = {}
        return result
    if empty:
        for path, content in layout.manifest(plan, result.files).items():
            result.files.setdefault(path, content)
    for path in layout.packages(plan, known):
        if path not in known:
            result.files.setdefault(path, b"")
    result.files = {path: body for path, body in sorted(result.files.items()) if existing.get(path) != body}
    return result


def _is_code(contract: Contract) -> bool:
    """Routes are documented only, unless their declaration is a function."""
    if contract.kind is ContractKind.FILE or not contract.declaration.strip():
        return False
    if contract.kind is not ContractKind.ROUTE:
        return True
    if language(contract.path) != "python":
        return False
    try:
        module = declarations.tree(contract.declaration)
    except python.Unparsable:
        return False
    return any(True for _ in declarations.functions(module))


def _file(result: Scaffold, contract: Contract, existing: Mapping[str, bytes]) -> None:
    content = contract.declaration
    content = (content if content.endswith("\n") else content + "\n").encode()
    there = existing.get(contract.path)
    if there is not None and there != content:
        result.errors.append(
            f"contract {contract.id}: {contract.path} is in the repository with another content: leave the "
            "declaration empty, or name another file"
        )
    elif result.files.get(contract.path, content) != content:
        result.errors.append(f"two contracts fix the content of {contract.path}: keep one")
    else:
        result.files[contract.path] = content


def _source(
    result: Scaffold, path: str, contracts: list[Contract], there: bytes | None, homes: Mapping[str, str]
) -> None:
    try:
        existing = None if there is None or not there.strip() else there.decode("utf-8-sig")
    except UnicodeDecodeError:
        result.errors.append(f"{path} in the repository is not UTF-8: contracts cannot be added to it")
        return
    if path in result.files:
        result.errors.append(f"{path} has both a file contract and declarations: keep one kind")
        return
    windows = existing is not None and "\r\n" in existing
    if existing is not None and windows:
        existing = existing.replace("\r\n", "\n")
    tongue = language(path)
    if tongue == "python":
        contracts = [_without_unbound_decorators(c) for c in contracts]
        merged = python_scaffold.merged(
            path, existing, contracts, {n: m for n, m in homes.items() if m != layout.module(path)}
        )
    elif tongue in tree_scaffold.STUBS:
        merged = tree_scaffold.merged(path, existing, contracts)
    else:
        models = [c.declaration.rstrip() for c in contracts if c.kind is ContractKind.DATA_MODEL]
        if models and existing is None:
            result.files[path] = ("\n\n".join(models) + "\n").encode()
        return
    result.errors += merged.errors
    if not merged.errors and merged.source != existing:
        source = merged.source.replace("\n", "\r\n") if windows else merged.source
        result.files[path] = source.encode()


def _homes(plan: Plan) -> dict[str, str]:
    """Name → module, for Python names that exactly one file declares."""
    found: dict[str, set[str]] = {}
    for contract in plan.contracts:
        if language(contract.path) != "python" or not _is_code(contract):
            continue
        try:
            module = declarations.tree(contract.declaration)
        except python.Unparsable:
            continue
        for node in module.body:
            for name in declarations.bound(node):
                found.setdefault(name, set()).add(layout.module(contract.path))
    return {name: next(iter(modules)) for name, modules in found.items() if len(modules) == 1}


def _without_unbound_decorators(contract: Contract) -> Contract:
    """A route's `@app.get(…)` cannot stand before there is an `app`; the provider adds it with the body."""
    if contract.kind is not ContractKind.ROUTE:
        return contract
    text = declarations.source(contract.declaration)
    rows = text.split("\n")
    for node, _ in declarations.functions(python.tree(text.encode())):
        for decorator in node.decorator_list:
            for at in range(decorator.lineno - 1, decorator.end_lineno or decorator.lineno):
                rows[at] = ""
    return contract.model_copy(update={"declaration": "\n".join(rows)})
