"""HTTP routes: the one a contract names, and the ones a source file serves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from swarmrun.api.plan import Contract
from swarmrun.code import python
from swarmrun.code.languages import language

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_NAMED = re.compile(rf"\b({'|'.join(METHODS)})\s+(/[^\s`'\",;)]*)")
_DECORATED = re.compile(
    rf"(\w*)\.({'|'.join(m.lower() for m in METHODS)})\(\s*[rbuf]*['\"`](/[^'\"`]*)['\"`]"
)
_APPLICATIONS = frozenset({"app", "application", "server", "api", "web"})
"""What an application is called that serves its routes where they are written."""
_PARAMETER = re.compile(r"\{[^}]*\}|<[^>]*>|:[A-Za-z_]\w*|\$\{[^}]*\}|\(\?P<\w+>[^)]*\)")


@dataclass(frozen=True)
class Route:
    method: str
    """Upper case; `*` where the source does not tell."""
    path: str
    """Parameters as `{}`: frameworks write them in many ways."""
    line: int
    mounted: bool = False
    """Registered on something else than the application: a prefix may be added in another file."""
    by_text: bool = False
    """Found as text (a path and a method's name in one file), not as a registration: weaker."""


def canonical(path: str) -> str:
    """`/links/<int:id>/` and `/links/{id}` are the same route."""
    return _PARAMETER.sub("{}", path.partition("?")[0]).rstrip("/") or "/"


def named_route(contract: Contract) -> tuple[str, str] | None:
    """(method, canonical path) that a route contract names, in its declaration or description."""
    for text in (contract.declaration, contract.description):
        match = _NAMED.search(text)
        if match:
            return match[1], canonical(match[2])
    match = _DECORATED.search(contract.declaration)
    return (match[2].upper(), canonical(match[3])) if match else None


def serves(path: str, source: bytes, method: str, wanted: str) -> Route | None:
    """The route, when the file serves it.

    A route of a router that another file may mount under a prefix is taken for the wanted one when their
    ends agree. Python registrations of FastAPI, Starlette, Flask and aiohttp are read from the syntax tree, those of
    Express and Go's ServeMux by pattern. Where a file registers nothing of the kind (http.server and its
    like), its texts are looked through: the path's fixed beginning and the method's name must both be there.
    That tells a missing route from a present one, not a right handler from a wrong one.
    """
    found = list(_python(source) if language(path) == "python" else _patterns(source))
    for route in found:
        below = route.mounted and (route.path == "/" or wanted.endswith(route.path))
        if route.method in (method, "*") and (route.path == wanted or below):
            return route
    return _by_text(source, method, wanted)


def _python(source: bytes) -> Iterator[Route]:
    try:
        module = python.tree(source)
    except python.Unparsable:
        return
    prefixes = dict(_prefixes(module))
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = getattr(function, "attr", getattr(function, "id", ""))
        texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        texts += [_string(k.value) for k in node.keywords if k.arg in ("path", "rule")]
        text = next((t for t in texts if t.startswith("/") or not t), None)
        if text is None:
            continue
        on = function.value if isinstance(function, ast.Attribute) else None
        owner = str(getattr(on, "id", getattr(on, "attr", "")))
        mounted = bool(owner) and owner not in _APPLICATIONS
        path = canonical(prefixes.get(owner, "") + text)
        word = str(name).removeprefix("add_").upper()
        if word in METHODS:
            yield Route(word, path, node.lineno, mounted)
        elif name in ("route", "api_route", "add_route", "add_api_route", "add_url_rule", "Route"):
            listed = next((k.value for k in node.keywords if k.arg == "methods"), None)
            values = [_string(e).upper() for e in getattr(listed, "elts", [])]
            if name == "add_route" and texts and texts[0].upper() in METHODS:
                values = [texts[0].upper()]  # aiohttp: add_route("GET", "/", handler)
            for method in values or ["GET"]:
                yield Route(method or "*", path, node.lineno, mounted)


def _prefixes(module: ast.Module) -> Iterator[tuple[str, str]]:
    """`router = APIRouter(prefix="/api")`, `bp = Blueprint("x", __name__, url_prefix="/api")`."""
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            prefix = next(
                (_string(k.value) for k in node.value.keywords if k.arg in ("prefix", "url_prefix")), ""
            )
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, prefix


def _string(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


_MUX = re.compile(r"\.Handle(?:Func)?\(\s*[\"`](?:([A-Z]+) )?(/[^\"`]*)[\"`]")


def _patterns(source: bytes) -> Iterator[Route]:
    text = source.decode("utf-8", "replace")
    for match in _DECORATED.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Route(match[2].upper(), canonical(match[3]), line, match[1] not in _APPLICATIONS)
    for match in _MUX.finditer(text):
        if match[1]:
            yield Route(match[1], canonical(match[2]), text.count("\n", 0, match.start()) + 1)


def _by_text(source: bytes, method: str, wanted: str) -> Route | None:
    text = source.decode("utf-8", "replace")
    if not re.search(rf"\b(do_|Method)?{method}\b", text, re.IGNORECASE if method != "GET" else 0):
        return None
    fixed = wanted.partition("{}")[0].rstrip("/") or "/"
    match = re.search(
        rf"['\"`/^]{re.escape(fixed.removeprefix('/'))}(?=[/'\"`?$({{<:\\]|$)", text, re.MULTILINE
    )
    if match is None:
        return None
    return Route(method, wanted, text.count("\n", 0, match.start()) + 1, by_text=True)
