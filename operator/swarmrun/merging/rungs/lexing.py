"""Lines as tokens that carry the white space before them, so that layout and meaning merge separately."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    r"(?P<space>[^\S\n]+|\\\n)"
    r"|(?P<newline>\n)"
    r"|(?P<string>[rbfuRBFU]{0,2}(?:\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'))"
    r"|(?P<word>\w+)"
    r"|(?P<mark>[^\w\s])"
)
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")
_BY_INDENT = frozenset({"python", "yaml"})


@dataclass(frozen=True, slots=True)
class Token:
    key: str
    """What it means: quotes are alike, a line's start in Python holds the indentation."""
    text: str
    space: str
    """White space (line ends inside brackets, too) before it."""


def lex(lines: Sequence[str], tongue: str) -> list[Token]:
    """Joining all `space + text` gives the lines back."""
    text = "".join(lines)
    tokens: list[Token] = []
    space, depth = "", 0
    brackets = _OPEN if tongue in _BY_INDENT else frozenset("([")
    for match in _TOKEN.finditer(text):
        kind, part = match.lastgroup, match[0]
        if kind == "space" or (kind == "newline" and depth > 0):
            space += part
            continue
        key = part
        if kind == "newline":
            key = "\n"
            if tongue in _BY_INDENT:
                key += _indent(text, match.end())
            if tokens and tokens[-1].text == "\n" and tokens[-1].key.startswith("\n"):
                # Empty lines: only the last line start counts.
                last = tokens.pop()
                space = last.space + last.text + space
        elif kind == "string":
            key = _unquoted(part)
        elif part in brackets:
            depth += 1
        elif part in _CLOSE and (tongue in _BY_INDENT or part != "}"):
            depth = max(depth - 1, 0)
        tokens.append(Token(key, part, space))
        space = ""
    if space:
        tokens.append(Token("", "", space))
    return _without_magic_commas(tokens)


def _indent(text: str, at: int) -> str:
    end = at
    while end < len(text) and text[end] in " \t":
        end += 1
    return text[at:end] if end < len(text) and text[end] != "\n" else ""


def _unquoted(string: str) -> str:
    quote = string[-1]
    start = string.index(quote)
    inner = string[start + 1 : -1]
    return string if '"' in inner or "'" in inner or "\\" in inner else f'{string[:start]}"{inner}"'


def _without_magic_commas(tokens: list[Token]) -> list[Token]:
    """A comma before a closing bracket on a line of its own is layout: it goes to the bracket's space."""
    result: list[Token] = []
    for token in tokens:
        if token.text in _CLOSE and "\n" in token.space and result and result[-1].text == ",":
            comma = result.pop()
            token = Token(token.key, token.text, comma.space + "," + token.space)
        result.append(token)
    return result


def keys(lines: Sequence[str], tongue: str) -> list[str]:
    """What the lines say, layout aside; empty ends are left out."""
    found = [token.key for token in lex(lines, tongue)]
    while found and found[-1].strip() == "":
        found.pop()
    while found and found[0].strip() == "":
        found.pop(0)
    return found
