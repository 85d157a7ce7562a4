"""Resources from YAML and back. Everything wrong is said at once: where, what, and the nearest right word."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from swarmrun.api import API_VERSION, GROUP
from swarmrun.api.run import SwarmRun
from swarmrun.api.swarmclass import SwarmClass
from swarmrun.api.yamltree import Document, Path, Problem, documents, dotted
from swarmrun.errors import InvalidResource

Resource = SwarmRun | SwarmClass

KINDS: dict[str, type[SwarmRun] | type[SwarmClass]] = {"SwarmRun": SwarmRun, "SwarmClass": SwarmClass}

_WORDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
"""pydantic's error types for values of a wrong kind, in the words of who writes YAML."""


def load(text: str, source: str, *, note: Callable[[str], None] | None = None) -> list[Resource]:
    """The SwarmRuns and SwarmClasses of a YAML text, in order; `source` names it in messages.

    A `List` (as kubectl and `-o json` print it) counts as its items. Documents of other kinds (Secret,
    ConfigMap …) are skipped; `note` is told. Raises InvalidResource that
    lists every problem of every document; its `field` is the first one's path.
    """
    resources: list[Resource] = []
    problems: list[tuple[int, Problem]] = []
    count = 0
    for document in (item for whole in documents(text, source) for item in _items(whole)):
        count = document.number
        found = list(document.problems)
        model = _model(document, found, note, source)
        if model is not None:
            try:
                resources.append(model.model_validate(document.value, by_alias=True, by_name=False))
            except ValidationError as exc:
                found += [_explain(error, model, document) for error in exc.errors()]
        problems += [(document.number, problem) for problem in sorted(found, key=lambda p: p.line)]
    if problems:
        raise _refused(source, problems, several=count > 1)
    return resources


def _items(document: Document) -> Iterator[Document]:
    raw: object = document.value
    value = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    items: object = value.get("items")
    if (value.get("apiVersion"), value.get("kind")) != ("v1", "List") or not isinstance(items, list):
        yield document
        return
    for number, item in enumerate(cast("list[Any]", items)):
        place = ("items", number)
        lines = {path[2:]: line for path, line in document.lines.items() if path[:2] == place}
        yield Document(document.number, item, lines, document.problems if number == 0 else [])


def _refused(source: str, problems: list[tuple[int, Problem]], *, several: bool) -> InvalidResource:
    lines = [
        (f"document {number}, " if several else "")
        + f"line {p.line}: "
        + (f"{p.path}: " if p.path else "")
        + p.text
        for number, p in problems
    ]
    separator = "\n  "
    message = (
        f"{source}, {lines[0]}"
        if len(lines) == 1
        else f"{source}: {len(lines)} problems{separator}{separator.join(lines)}"
    )
    return InvalidResource(message, field=problems[0][1].path)


def dump(resource: BaseModel) -> str:
    """YAML as a person would write it: defaults left out, long texts as blocks, no anchors."""
    return to_yaml(plain(resource))


def plain(resource: BaseModel) -> dict[str, Any]:
    """What `dump` writes, as JSON types. A status keeps its `false`s and zeros: there they say something."""
    data = resource.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    if isinstance(resource, (SwarmRun, SwarmClass)):
        data = {"apiVersion": resource.api_version, "kind": resource.kind, **data}
    status = getattr(resource, "status", None)
    if isinstance(status, BaseModel):
        data["status"] = _without_empty(status.model_dump(mode="json", by_alias=True, exclude_none=True))
    return data


def to_yaml(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        cleaned = {k: _without_empty(v) for k, v in cast("dict[str, Any]", value).items()}
        return {k: v for k, v in cleaned.items() if v not in ("", [], {})}
    if isinstance(value, list):
        return [_without_empty(v) for v in cast("list[Any]", value)]
    return value


def _model(
    document: Document, found: list[Problem], note: Callable[[str], None] | None, source: str
) -> type[SwarmRun] | type[SwarmClass] | None:
    """The document's model; or none, when it is somebody else's or `found` says what is wrong with it."""

    def wrong(field: str, text: str) -> None:
        found.append(Problem(document.line((field,)), field, text))

    raw: object = document.value
    if not isinstance(raw, dict):
        return wrong("", f"a mapping with apiVersion and kind is wanted, {_seen(raw)} was given")
    value = cast("dict[str, Any]", raw)
    version, kind = value.get("apiVersion"), value.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        missing = "kind" if isinstance(version, str) else "apiVersion"
        return wrong(missing, f"missing; write `apiVersion: {API_VERSION}` and `kind: SwarmRun`")
    if version.partition("/")[0] != GROUP:
        if note:
            note(f"{source}, document {document.number}: {kind} ({version}) is not ours, skipped")
        return None
    if version != API_VERSION:
        return wrong("apiVersion", f"{version} is not known here; use {API_VERSION}")
    if kind not in KINDS:
        return wrong("kind", f"{GROUP} has no {kind}; {_nearest(kind, list(KINDS))}")
    return KINDS[kind]


def _explain(error: Any, model: type[BaseModel], document: Document) -> Problem:
    """One of pydantic's errors in the words of who writes YAML."""
    loc: Path = tuple(p for p in error["loc"] if p != "[key]")
    kind, given, context = error["type"], error.get("input"), cast("dict[str, Any]", error.get("ctx", {}))
    mend = ""
    if kind == "extra_forbidden":
        text = "unknown field; " + _nearest(str(loc[-1]), _fields_at(model, loc[:-1]))
    elif kind == "missing":
        text = "missing"
    elif kind in _WORDS:
        text = f"{_WORDS[kind]} is wanted, {_seen(given)} was given"
        if kind == "string_type" and isinstance(given, (int, float)):
            mend = "; write it in quotes"
    elif kind == "enum" or kind == "literal_error":
        wanted = [word.strip(" '") for word in str(context["expected"]).replace(" or ", ", ").split(",")]
        text = f"{_seen(given)} is not one of {', '.join(w for w in wanted if w)}"
        if isinstance(given, str) and (near := get_close_matches(given, wanted, 1)):
            mend = f"; did you mean {near[0]}?"
    elif kind == "string_pattern_mismatch":
        text = f"{_seen(given)} does not match {context['pattern']}"
    elif kind == "value_error":
        text = str(context.get("error", error["msg"]))
    else:
        text = f"{error['msg'][:1].lower()}{error['msg'][1:]} ({_seen(given)} was given)"
    return Problem(document.line(loc), dotted(loc), text + mend)


def _seen(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _nearest(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"


def _fields_at(model: type[BaseModel], path: Path) -> list[str]:
    """Names of the fields that may stand at a place."""
    here: Any = model
    for part in path:
        here = _inside(here, part)
    return [f.alias or name for name, f in here.model_fields.items()] if _is_model(here) else []


def _inside(annotation: Any, part: str | int) -> Any:
    if _is_model(annotation):
        for name, info in annotation.model_fields.items():
            if part in (name, info.alias):
                return _bare(info.annotation)
        return None
    arguments = get_args(annotation)
    return _bare(arguments[-1]) if arguments else None


def _bare(annotation: Any) -> Any:
    """Without Annotated and `| None`."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        arguments = [a for a in get_args(annotation) if a is not type(None)]
        annotation = arguments[0]
    return annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
