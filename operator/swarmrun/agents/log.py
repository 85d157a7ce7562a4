"""What an agent said, called and got back, as lines for people: one form for the sandbox's standard output, for
`swarmrun logs` and for the operator's read interface. Pure.

```
── coder storage, attempt 1, turn 3
told: …                        what the model read before it answered, beside the results of its calls
…                              what it said
note: …                        what had to be mended in its answer
→ exec {"command": "pytest"}   a call
  3 passed                     … and what was told of it
```
Control characters are escaped, what looks like a key is taken out, long texts are cut. A line that a model said and
that would pass for one of ours stands behind a `│`; results are indented.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from swarmrun.api.base import legible
from swarmrun.api.printable import printable
from swarmrun.errors import NotFound
from swarmrun.git.command import scrub as without_credentials
from swarmrun.observability.secrets import scrub

TEXT, ARGUMENTS, RESULT = 4000, 400, 2000
"""Characters that are shown of what was said, of a call's arguments, of its result; the whole is in the artifacts.
Choices."""


def turn_lines(
    role: str, task: str, attempt: int | str, turn: int | str, reply: Mapping[str, Any]
) -> list[str]:
    """What stands above a turn's calls. `reply` is the stored reply (`activities.records.StoredReply`)."""
    return [
        f"── {role} {task}, attempt {attempt}, turn {turn}",
        *(f"told: {line}" for text in reply.get("told", []) for line in _shown(str(text), TEXT)),
        *(_said(line) for line in _shown(str(reply.get("text", "")), TEXT)),
        *(f"note: {line}" for note in reply.get("notes", []) for line in _shown(str(note), TEXT)),
    ]


_HEAD = re.compile(r"── \S+ (\S+), attempt \d+, turn \d+")


def task_of(line: str) -> str:
    """The task of a turn that begins with this line; empty where none does."""
    found = _HEAD.fullmatch(line)
    return found[1] if found else ""


_OURS = ("── ", "→ ", "told: ", "note: ", "│ ")


def _said(line: str) -> str:
    return f"│ {line}" if line.startswith(_OURS) else line


def call_lines(call: Mapping[str, Any], result: Mapping[str, Any] | None) -> list[str]:
    """One call and what was told of it. `result` None: nothing yet, or it was not run."""
    arguments = json.dumps(call.get("arguments", {}), ensure_ascii=False, default=str)
    line = " ".join(_shown(f"→ {call.get('name')} {arguments}", ARGUMENTS))
    told = _shown(str(result.get("text", "")), RESULT) if result is not None else ()
    return [line, *(f"  {text}" for text in told)]


def kept_from(task: str, attempt: int) -> str:
    """What is said before the turns of a task that a rerun kept."""
    return f"attempt {attempt} of the run did task {task}, the present one has kept its work: these are its turns"


def kept_and_gone(run: str, task: str) -> NotFound:
    return NotFound(
        f"an earlier attempt of run {run} did task {task}, and its turns are not kept any more",
        mend="spec.ttlSecondsAfterFinished says how long work is kept",
        reason="EarlierAttemptGone",
    )


def _shown(text: str, limit: int) -> Iterator[str]:
    text = without_credentials(scrub(legible(text)))
    if len(text) > limit:
        text = f"{text[:limit]}… [{len(text) - limit:,} characters more]"
    for line in text.splitlines():
        yield printable(line)
