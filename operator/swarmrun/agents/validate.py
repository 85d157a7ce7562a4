"""Arguments that do not fit, told in a way that a model can mend."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from swarmrun.agents.near import nearest
from swarmrun.agents.tool import Arguments, Tool

_MOST = 5


def explain(tool: Tool[Any], exc: ValidationError, arguments: dict[str, Any]) -> str:
    """One line per problem, the nearest name for unknown arguments, and the call's shape last."""
    rows: list[str] = []
    for error in exc.errors(include_url=False)[:_MOST]:
        where = ".".join(str(part) for part in error["loc"])
        if error["type"] == "extra_forbidden":
            guess = nearest(str(error["loc"][-1]), _names(tool.arguments, error["loc"][:-1]))
            rows.append(f"unknown argument {where!r}" + (f"; did you mean {guess!r}?" if guess else ""))
        elif error["type"] == "missing":
            rows.append(f"{where} is missing")
        else:
            given = repr(error["input"])
            rows.append(f"{where}: {error['msg']}, not {given[:80]}{'…' if len(given) > 80 else ''}")
    return f"{tool.name}: " + "; ".join(rows) + f". Nothing was done. Call it again as {usage(tool)}"


def usage(tool: Tool[Any]) -> str:
    """`read_file(path, start=1, limit=400)`."""
    parts: list[str] = []
    for name, info in tool.arguments.model_fields.items():
        shown = info.alias or name
        parts.append(
            shown if info.is_required() else f"{shown}={info.get_default(call_default_factory=True)!r}"
        )
    return f"{tool.name}({', '.join(parts)})"


def _names(model: type[Arguments], loc: tuple[int | str, ...]) -> list[str]:
    """Argument names at a place within the arguments (lists hold one kind of object)."""
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    node: dict[str, Any] = schema
    for part in loc:
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
        if "$ref" in node:
            node = definitions[node["$ref"].rpartition("/")[2]]
    return list(node.get("properties", {}))
