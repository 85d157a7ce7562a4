"""tree-sitter grammars, one wheel a language, and the table that says what their nodes mean.

A language is added by a row here and its wheel; nothing else knows node names. Grammars are loaded when
first needed; a wheel that is not installed means that the language is not supported here.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Parser, Tree

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Grammar:
    """Node types by meaning. `symbols` maps a node type to the kind of symbol it declares."""

    module: str
    """Python module of the wheel."""
    function: str
    """The function of that module that gives the language."""
    symbols: dict[str, str]
    containers: frozenset[str]
    """Nodes whose members are symbols of their own: classes, interfaces, structs, namespaces."""
    bodies: frozenset[str]
    """The node inside a container that holds the members."""
    wrappers: frozenset[str] = _NONE
    """Nodes that only wrap a declaration (`export …`, `const ( … )`)."""
    imports: frozenset[str] = _NONE
    comments: frozenset[str] = frozenset({"comment"})
    decorators: frozenset[str] = _NONE
    function_values: frozenset[str] = _NONE
    """Expressions that make a variable a function (`const f = () => …`)."""
    overloads: bool = False
    """Several functions of one name differ by their parameters."""
    keep_calls: frozenset[str] = _NONE
    """Called names whose calls with a string are symbols of a kind: `describe("x", …)`, `it("y", …)`."""


_JAVASCRIPT = {
    "function_declaration": "function",
    "generator_function_declaration": "function",
    "class_declaration": "class",
    "method_definition": "method",
    "field_definition": "field",
    "variable_declarator": "variable",
}
_TYPESCRIPT = {
    **_JAVASCRIPT,
    "function_signature": "function",
    "abstract_class_declaration": "class",
    "interface_declaration": "type",
    "type_alias_declaration": "type",
    "enum_declaration": "type",
    "enum_assignment": "field",
    "internal_module": "type",
    "public_field_definition": "field",
    "property_signature": "field",
    "method_signature": "method",
    "abstract_method_signature": "method",
}
_SCRIPT_CALLS = frozenset({"describe", "it", "test", "suite"})


def _script(module: str, function: str, table: dict[str, str]) -> Grammar:
    return Grammar(
        module,
        function,
        table,
        containers=frozenset(
            {
                "class_declaration",
                "abstract_class_declaration",
                "interface_declaration",
                "enum_declaration",
                "internal_module",
            }
        ),
        bodies=frozenset({"class_body", "interface_body", "object_type", "enum_body", "statement_block"}),
        wrappers=frozenset(
            {
                "export_statement",
                "lexical_declaration",
                "variable_declaration",
                "ambient_declaration",
                "expression_statement",
            }
        ),
        imports=frozenset({"import_statement"}),
        decorators=frozenset({"decorator"}),
        function_values=frozenset({"arrow_function", "function_expression", "generator_function"}),
        keep_calls=_SCRIPT_CALLS,
    )


GRAMMARS: dict[str, Grammar] = {
    "javascript": _script("tree_sitter_javascript", "language", _JAVASCRIPT),
    "typescript": _script("tree_sitter_typescript", "language_typescript", _TYPESCRIPT),
    "tsx": _script("tree_sitter_typescript", "language_tsx", _TYPESCRIPT),
    "go": Grammar(
        "tree_sitter_go",
        "language",
        {
            "function_declaration": "function",
            "method_declaration": "method",
            "type_spec": "type",
            "type_alias": "type",
            "const_spec": "variable",
            "var_spec": "variable",
            "field_declaration": "field",
            "method_elem": "method",
        },
        containers=frozenset({"type_spec"}),
        bodies=frozenset({"field_declaration_list", "interface_type"}),
        wrappers=frozenset(
            {"type_declaration", "const_declaration", "var_declaration", "var_spec_list", "struct_type"}
        ),
        imports=frozenset({"import_declaration"}),
    ),
    "rust": Grammar(
        "tree_sitter_rust",
        "language",
        {
            "function_item": "function",
            "function_signature_item": "function",
            "struct_item": "type",
            "enum_item": "type",
            "trait_item": "type",
            "impl_item": "class",
            "type_item": "type",
            "mod_item": "class",
            "const_item": "variable",
            "static_item": "variable",
            "field_declaration": "field",
            "enum_variant": "field",
        },
        containers=frozenset({"struct_item", "enum_item", "trait_item", "impl_item", "mod_item"}),
        bodies=frozenset({"declaration_list", "field_declaration_list", "enum_variant_list"}),
        imports=frozenset({"use_declaration"}),
        comments=frozenset({"line_comment", "block_comment"}),
        decorators=frozenset({"attribute_item"}),
    ),
    "java": Grammar(
        "tree_sitter_java",
        "language",
        {
            "class_declaration": "class",
            "interface_declaration": "type",
            "enum_declaration": "type",
            "record_declaration": "class",
            "method_declaration": "method",
            "constructor_declaration": "method",
            "field_declaration": "field",
            "enum_constant": "field",
        },
        containers=frozenset(
            {"class_declaration", "interface_declaration", "enum_declaration", "record_declaration"}
        ),
        bodies=frozenset({"class_body", "interface_body", "enum_body"}),
        imports=frozenset({"import_declaration"}),
        overloads=True,
        comments=frozenset({"line_comment", "block_comment"}),
    ),
}


@cache
def available(tongue: str) -> bool:
    """Whether the table knows the language and its wheel is installed."""
    if tongue not in GRAMMARS:
        return False
    try:
        importlib.import_module(GRAMMARS[tongue].module)
    except ImportError:
        return False
    return True


@cache
def _language(tongue: str):
    from tree_sitter import Language

    grammar = GRAMMARS[tongue]
    return Language(getattr(importlib.import_module(grammar.module), grammar.function)())


def parser(tongue: str) -> Parser:
    """A fresh parser: they are not to be shared between threads. Raises KeyError for unknown languages."""
    from tree_sitter import Parser

    return Parser(_language(tongue))


def parse(tongue: str, source: bytes) -> Tree:
    """Never fails on any bytes: what does not fit becomes ERROR nodes."""
    return parser(tongue).parse(source)
