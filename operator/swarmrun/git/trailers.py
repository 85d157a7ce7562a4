"""Trailers of commit messages, as `git interpret-trailers` reads them: `Key: value` lines in the last paragraph.

A run marks its commits with them, so that a later attempt, or a cluster rebuilt from git, recognises them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from swarmrun.errors import InvalidResource

RUN = "SwarmRun-Run"
"""The run's instance id."""
TASK = "SwarmRun-Task"
"""The task's id; absent on commits of the run as a whole."""
SPEC_HASH = "SwarmRun-Spec-Hash"
"""Hash of what was asked for: equal specs give equal hashes on every machine."""
PARTIAL = "SwarmRun-Partial"
"""On the last commit of a result that is published although the run has failed: its reason."""

_TRAILER = re.compile(r"(?P<key>[A-Za-z0-9-]+)[ \t]*:[ \t]*(?P<value>.*)")


def run_trailers(*, run: str, spec_hash: str, task: str = "") -> dict[str, str]:
    """The trailers of a commit of this run."""
    return {RUN: run, **({TASK: task} if task else {}), SPEC_HASH: spec_hash}


def without_attempt(run: str) -> str:
    """What all attempts of a run have in common: `<uid>-2` and `<uid>-1`, `shop-3f2a41-2` and `shop-3f2a41`."""
    return re.sub(r"(?<=[0-9a-f]{6})-[1-9][0-9]{0,3}$", "", run)


def add(message: str, trailers: Mapping[str, str]) -> str:
    """`message` with the trailers in its last paragraph; a key that stands there already gets the new value.

    Raises InvalidResource when a key or value could not be read back.
    """
    for key, value in trailers.items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", key) or not value.strip() or value.splitlines() != [value]:
            raise InvalidResource(f"trailer {key!r}: {value!r} is not one `Key: value` line")
    paragraphs = _paragraphs(message)
    old = _block(paragraphs)
    body = paragraphs[:-1] if old else paragraphs
    lines = [f"{key}: {value.strip()}" for key, value in {**old, **trailers}.items()]
    return "\n\n".join([*(body or ["(no message)"]), "\n".join(lines)]) + "\n"


def parse(message: str) -> dict[str, str]:
    """The trailers of a message, the last value of a repeated key. Empty when there are none."""
    return _block(_paragraphs(message))


def _paragraphs(message: str) -> list[str]:
    lines = (line.rstrip() for line in message.replace("\r\n", "\n").split("\n"))
    return [p.strip("\n") for p in re.split(r"\n{2,}", "\n".join(lines).strip("\n")) if p.strip("\n")]


def _block(paragraphs: list[str]) -> dict[str, str]:
    # The subject is never a trailer block; git also takes blocks that are a quarter trailers, we write whole ones.
    if len(paragraphs) < 2:
        return {}
    found: dict[str, str] = {}
    key = ""
    for line in paragraphs[-1].split("\n"):
        if line[:1] in (" ", "\t") and key:
            found[key] += " " + line.strip()
        elif match := _TRAILER.fullmatch(line):
            key = match["key"]
            found[key] = match["value"].strip()
        else:
            return {}
    return found
