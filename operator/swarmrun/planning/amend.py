"""What a proposed change of a contract does to those who use it already."""

from __future__ import annotations

from typing import Literal

from swarmrun.api.plan import Contract, ContractKind
from swarmrun.code import python
from swarmrun.code.languages import language
from swarmrun.code.parse import syntax_errors
from swarmrun.planning import declarations, loose, python_contracts, tree_contracts
from swarmrun.planning.routes import named_route
from swarmrun.planning.sources import Sources


def declaration_in(proposal: str) -> str:
    """The declaration that a proposal consists of, a fence around it left out."""
    return loose.unfenced(proposal.strip()).strip()


def classify(contract: Contract, proposal: str) -> Literal["additive", "breaking"]:
    """`proposal` is the whole new declaration. Additive: everything that was declared is still there and
    can be used as before. Prose, or what does not parse, is breaking: nobody can tell."""
    text = declaration_in(proposal)
    if not text:
        return "breaking"
    if text == contract.declaration.strip():
        return "additive"
    changed = contract.model_copy(update={"declaration": text})
    if contract.kind is ContractKind.FILE:
        return "breaking"
    if contract.kind is ContractKind.ROUTE and named_route(changed) != named_route(contract):
        return "breaking"
    path = contract.path
    if language(path) == "python":
        return "breaking" if _python_breaks(contract, text) else "additive"
    if tree_contracts.supported(path):
        if syntax_errors(path, text.encode()):
            return "breaking"
        return (
            "breaking"
            if any(tree_contracts.findings(contract, path, text.encode(), strict=True))
            else "additive"
        )
    return "breaking"


def _python_breaks(contract: Contract, text: str) -> bool:
    try:
        declarations.tree(contract.declaration)
        source = declarations.source(text).encode()
    except python.Unparsable:
        return True
    sources = Sources(lambda _: source, [contract.path])
    return any(True for _ in python_contracts.findings(contract, sources, strict=True))
