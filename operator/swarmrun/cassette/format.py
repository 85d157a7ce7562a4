"""The file: who asks (role, task, attempt, turn), what the request must show, what is answered.

    model: cassette                 # the name the answers carry
    entries:
      - role: coder                 # `*` (and an absent task, attempt, sample, run or api) fits anything
        task: storage
        turn: 1
        expect:                     # a request that does not show this is refused, loudly
          tools: [write_file]       # all offered
          messages_contain: [TTL]   # each somewhere in instructions or messages
          last_tool_result_contains: ["exit 0"]   # each in the results since the model last spoke
        faults:                     # first these, in order, each `times` times; then the answer
          - {status: 429, retry_after: 1}
          - {cut: mid_call}
        text: I write the file.
        calls:
          - name: write_file
            arguments: {path: a.py, content: {file: fixtures/a.py}}   # relative to the cassette
          - name: read_file
            arguments: '{"path": broken'                              # a string goes out as it is
        usage: {input: 1200, cached: 800, output: 90}
        after: coder/api/1/1        # held back until this has been asked: role/task/attempt/turn
    defaults:                       # asked when no entry fits
      - {role: judge, turn: "*", json: {score: 90}}

Of several entries that fit, the one with fewer `*` answers. `{file: PATH}` stands for a file's text anywhere
within `text`, `json` and `arguments` (one level down at least: a tool may well have an argument named `file`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from swarmrun.errors import InvalidResource, NotFound

_ANY = "*"


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Expect(Part):
    tools: list[str] = Field(default_factory=list[str])
    messages_contain: list[str] = Field(default_factory=list[str])
    last_tool_result_contains: list[str] = Field(default_factory=list[str])


class Tokens(Part):
    """Absent: estimated from the texts' lengths, four characters a token."""

    input: int = Field(ge=0)
    cached: int = Field(default=0, ge=0)
    cache_write: int = Field(default=0, ge=0)
    output: int = Field(ge=0)
    reasoning: int = Field(default=0, ge=0)


class Call(Part):
    name: str
    arguments: dict[str, Any] | str = Field(default_factory=dict[str, Any])
    """A string goes out as it is, valid JSON or not."""
    id: str | int | None = None
    """Default `call_<turn>_<index>`. A number goes out as a number on chat."""


class Fault(Part):
    """What goes wrong before the answer comes. Exactly one kind."""

    status: int | None = Field(default=None, ge=400, le=599)
    retry_after: float | None = Field(default=None, ge=0)
    """Seconds, with `status`."""
    code: str = ""
    """Error code in the body, with `status`."""
    message: str = "planted by the cassette"
    cut: Literal["mid_call"] | None = None
    """The connection is dropped in the middle of the first call's arguments (of the text where there is none)."""
    cut_after_bytes: int | None = Field(default=None, ge=0)
    empty: bool = False
    """A whole answer with nothing in it."""
    finish: Literal["length", "content_filter"] | None = None
    """The entry's answer, but ended so."""
    times: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _one_kind(self) -> Fault:
        kinds = [self.status, self.cut, self.cut_after_bytes, self.empty or None, self.finish]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("a fault is exactly one of: status, cut, cut_after_bytes, empty, finish")
        return self

    @property
    def label(self) -> str:
        """For the request log: `429`, `cut`, `empty` …"""
        if self.status is not None:
            return str(self.status)
        return "cut" if self.cuts else self.finish or "empty"

    @property
    def cuts(self) -> bool:
        return self.cut is not None or self.cut_after_bytes is not None


Number = Annotated[int, Field(ge=0)] | Literal["*"]


class Entry(Part):
    role: str
    task: str = _ANY
    attempt: Number = "*"
    turn: Number
    sample: Number = "*"
    """Header `x-swarmrun-sample`, where several answers to one question are taken."""
    run: str = _ANY
    api: Literal["*", "chat", "responses"] = "*"
    expect: Expect = Field(default_factory=Expect)
    faults: list[Fault] = Field(default_factory=list[Fault])
    reasoning: str = ""
    text: str = ""
    calls: list[Call] = Field(default_factory=list[Call])
    answer: Any = Field(default=None, alias="json")
    """`json` in the file: goes out as text."""
    usage: Tokens | None = None
    delay: float = Field(default=0, ge=0, le=3600)
    """Seconds before the first byte of the answer."""
    after: Annotated[str, Field(pattern=r"^(|([^/\s]+/){3}\d+)$")] = ""
    """`role/task/attempt/turn`: answered once the same run has asked this, so that a recording can show what
    agents at work at the same time do to each other, however fast the machine is."""

    @model_validator(mode="after")
    def _answers(self) -> Entry:
        if self.answer is not None and (self.text or self.calls):
            raise ValueError("json stands alone: no text or calls beside it")
        if not (self.text or self.calls or self.answer is not None or self.faults):
            raise ValueError(
                "no answer: give text, calls or json (an empty answer is the fault {empty: true})"
            )
        return self

    @property
    def key(self) -> tuple[str, ...]:
        parts = (self.role, self.task, self.attempt, self.turn, self.sample, self.run, self.api)
        return tuple(str(part) for part in parts)

    @property
    def content(self) -> str:
        return self.text if self.answer is None else json.dumps(self.answer, ensure_ascii=False)

    def describe(self) -> str:
        names = ("role", "task", "attempt", "turn", "sample", "run", "api")
        return (
            " ".join(f"{n}={v}" for n, v in zip(names, self.key, strict=True) if v != _ANY) or "any request"
        )


class Cassette(Part):
    model: str = "cassette"
    entries: list[Entry] = Field(default_factory=list[Entry])
    defaults: list[Entry] = Field(default_factory=list[Entry])

    @model_validator(mode="after")
    def _unique(self) -> Cassette:
        for where, entries in (("entries", self.entries), ("defaults", self.defaults)):
            seen: dict[tuple[str, ...], int] = {}
            for index, entry in enumerate(entries):
                if entry.key in seen:
                    raise ValueError(
                        f"{where}[{index}] ({entry.describe()}) repeats {where}[{seen[entry.key]}]"
                    )
                seen[entry.key] = index
        return self

    def find(self, key: dict[str, str]) -> Entry:
        """The entry for a request's key (role, task, attempt, turn, sample, run, api). Raises NotFound, naming
        the nearest entries."""
        names = ("role", "task", "attempt", "turn", "sample", "run", "api")
        asked = tuple(key.get(name, "") for name in names)
        for entries in (self.entries, self.defaults):
            fitting = [e for e in entries if all(w in (_ANY, a) for w, a in zip(e.key, asked, strict=True))]
            if fitting:
                return min(fitting, key=lambda e: e.key.count(_ANY))
        same_task = [e for e in self.entries if e.role == asked[0] and e.task in (_ANY, asked[1])]
        near = same_task or [e for e in self.entries if e.role == asked[0]] or self.entries
        listed = "; ".join(e.describe() for e in near[:12])
        raise NotFound(f"no entry for {_told(key)}; nearest: {listed or 'the cassette is empty'}")


def load(path: str | Path) -> Cassette:
    """Reads and checks a cassette. Raises NotFound or InvalidResource, which names the entry."""
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise NotFound(f"cassette {path} does not exist", mend="check the path") from exc
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise InvalidResource(f"cassette {path} cannot be read: {exc}", field="cassette") from exc
    if not isinstance(raw, dict):
        raise InvalidResource(f"cassette {path} holds no mapping with entries", field="cassette")
    for where in ("entries", "defaults"):
        for index, entry in enumerate(raw.get(where) or ()):
            if isinstance(entry, dict):
                _include(entry, path.parent, f"{path}: {where}[{index}]")
    try:
        return Cassette.model_validate(raw)
    except ValidationError as exc:
        raise InvalidResource(f"cassette {path}: {_first(exc, raw)}", field="cassette") from exc


def _include(entry: dict[str, Any], base: Path, where: str) -> None:
    for key in ("text", "json"):
        if key in entry:
            entry[key] = _included(entry[key], base, where)
    for call in entry.get("calls") or ():
        if isinstance(call, dict) and isinstance(call.get("arguments"), dict):
            call["arguments"] = {k: _included(v, base, where) for k, v in call["arguments"].items()}


def _included(value: Any, base: Path, where: str) -> Any:
    if isinstance(value, dict):
        if set(value) == {"file"} and isinstance(value["file"], str):
            return _file(value["file"], base, where)
        return {key: _included(inner, base, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_included(inner, base, where) for inner in value]
    return value


def _file(name: str, base: Path, where: str) -> str:
    target = (base / name).resolve()
    if not target.is_relative_to(base.resolve()):
        raise InvalidResource(
            f"{where}: file {name!r} lies outside the cassette's directory", field="cassette"
        )
    try:
        return target.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidResource(f"{where}: file {name!r} cannot be read: {exc}", field="cassette") from exc


def _first(exc: ValidationError, raw: dict[str, Any]) -> str:
    """The first fault, with the entry's own names beside its number."""
    error = exc.errors()[0]
    place = ".".join(str(step) for step in error["loc"])
    steps = error["loc"]
    named = ""
    if len(steps) > 1 and isinstance(steps[1], int):
        entry = raw[str(steps[0])][steps[1]]
        if isinstance(entry, dict):
            named = " (" + " ".join(f"{k}={entry[k]}" for k in ("role", "task", "turn") if k in entry) + ")"
    more = f" (and {exc.error_count() - 1} more)" if exc.error_count() > 1 else ""
    return f"{place}{named}: {error['msg']}{more}"


def _told(key: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in key.items() if value)
