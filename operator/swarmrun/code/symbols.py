"""The inventory of a source file: which functions, classes, fields and imports it holds, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from swarmrun.code.languages import PROGRAMS, language
from swarmrun.code.text import readable

Kind = Literal["function", "class", "method", "field", "variable", "import", "type"]


@dataclass(frozen=True)
class Symbol:
    """One named thing. Lines are 1-based and inclusive; bytes are a half-open range of whole lines.

    Both spans include decorators and the comment lines directly above.
    """

    name: str
    """Qualified: `f`, `C`, `C.m`, `outer.<locals>.inner`. For imports the name it is bound to; a star
    import is bound to `from module import *`."""
    kind: Kind
    lines: tuple[int, int]
    bytes: tuple[int, int]
    signature: str
    """The declaration without its body on one line: `async def f(a: int, *, b=1) -> str`,
    `class C(Base)`, `x: int = 3`, `from a import b as c`."""
    body_hash: str
    """Equal when two bodies differ only in white space, comments and docstring."""
    body_size: int
    """Lines of code in the body: no empty lines, comments or docstring."""


@lru_cache(maxsize=256)
def symbols(path: str, source: bytes) -> Sequence[Symbol]:
    """Every symbol in the order of the text. Empty for languages without symbols and for sources that are
    binary, too large, or (Python) do not parse; other grammars recover and give what they can."""
    tongue = language(path)
    if tongue not in PROGRAMS or not readable(source):
        return ()
    if tongue == "python":
        from swarmrun.code.python_symbols import python_symbols

        return tuple(python_symbols(source))
    from swarmrun.code.tree_symbols import tree_symbols

    return tuple(tree_symbols(tongue, source))
