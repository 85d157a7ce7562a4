"""Contracts verified after the work, by reading the code."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from swarmrun.api.plan import Contract, ContractKind, Plan
from swarmrun.code.languages import language
from swarmrun.planning import python_contracts, tree_contracts
from swarmrun.planning.imports import ImportCheck
from swarmrun.planning.paths import owns
from swarmrun.planning.python_contracts import Finding
from swarmrun.planning.routes import named_route, serves
from swarmrun.planning.sources import Sources

_MOST = 200
"""Breaches told; the rest would have the same cause."""


@dataclass(frozen=True)
class Breach:
    """A contract that the code does not keep. `contract` is empty for an import that leads nowhere."""

    contract: str
    task: str
    """Who provides it; for imports who owns the file; may be empty."""
    path: str
    expected: str
    found: str
    line: int
    message: str

    def __str__(self) -> str:
        head = f"contract {self.contract}: " if self.contract else ""
        return f"{head}{self.message} ({self.path}:{self.line})"


def verify(
    plan: Plan,
    read: Callable[[str], bytes],
    paths: Collection[str],
    *,
    only_task: str | None = None,
) -> list[Breach]:
    """Every breach of the plan's contracts, or of those that one task provides.

    `read` gives the bytes of one of `paths`, which are all files of the repository. Python is compared by
    syntax tree, TypeScript, JavaScript and Go by symbols and their headers; of other languages only the
    files themselves are asked for. Imports of the tasks' own files must resolve, too.
    """
    sources = Sources(read, paths)
    found: list[Breach] = []
    for contract in plan.contracts:
        provider = next((t.id for t in plan.tasks if contract.id in t.provides), "")
        if only_task is None or provider == only_task:
            found += [_breach(contract, provider, finding) for finding in _findings(contract, sources)]
    found += imports_resolve(plan, sources.get, sources.paths, only_task=only_task)
    return found[:_MOST]


def imports_resolve(
    plan: Plan, read: Callable[[str], bytes], paths: Collection[str], *, only_task: str | None = None
) -> list[Breach]:
    """Imports, in files that the tasks own or that hold contracts, of modules or names that the repository
    should hold and does not."""
    found: list[Breach] = []
    held = {c.path for c in plan.contracts}
    check = ImportCheck(read, paths)
    owners = [t for t in plan.tasks if only_task in (None, t.id)]
    for path in sorted(p for p in paths if language(p) == "python"):
        owner = next((t.id for t in owners if any(owns(o, path) for o in t.owned_paths)), "")
        if not owner and (only_task is not None or path not in held):
            continue
        for problem in check.problems(path):
            found.append(
                Breach("", owner, path, "an import that resolves", "", problem.line, problem.message)
            )
    return found


def _breach(contract: Contract, task: str, finding: Finding) -> Breach:
    return Breach(
        contract.id, task, finding.path, finding.expected, finding.found, finding.line, finding.message
    )


def _findings(contract: Contract, sources: Sources) -> Iterator[Finding]:
    path = contract.path
    if path not in sources.paths:
        yield Finding(path, "nothing", path, 1, f"{path} does not exist")
    elif contract.kind is ContractKind.FILE:
        wanted = contract.declaration.strip()
        given = sources.get(path).decode("utf-8", "replace").strip()
        if wanted and wanted.splitlines() != given.splitlines():
            yield Finding("the content as declared", "another content", path, 1, f"{path} was changed")
    elif contract.kind is ContractKind.ROUTE:
        yield from _route(contract, sources)
    elif language(path) == "python":
        yield from python_contracts.findings(contract, sources)
    elif tree_contracts.supported(path):
        yield from tree_contracts.findings(contract, path, sources.get(path))


def _route(contract: Contract, sources: Sources) -> Iterator[Finding]:
    """The route must be served; the handler's signature is the framework's business, its body is not."""
    named = named_route(contract)
    if named is None:
        return
    method, wanted = named
    route = serves(contract.path, sources.get(contract.path), method, wanted)
    if route is None:
        text = f"{method} {wanted}"
        yield Finding(text, "nothing", contract.path, 1, f"{contract.path} does not serve {text}")
    elif language(contract.path) == "python":
        for finding in python_contracts.findings(contract, sources):
            if "still a stub" in finding.message:
                yield finding
