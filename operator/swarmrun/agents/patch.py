"""`apply_patch`: several files at once, all or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from swarmrun.agents.lines import changed_places, decode, encode, new_syntax_errors, split
from swarmrun.agents.patch_apply import apply_hunks
from swarmrun.agents.patch_format import FileChange, parse_patch
from swarmrun.agents.tool import Arguments, Hands, Tool, ToolOutcome
from swarmrun.agents.tree import clean, note_outside, read_before, refuse_foreign
from swarmrun.errors import NotFound, ToolRejected


class ApplyPatch(Arguments):
    patch: str = Field(min_length=1, description="From `*** Begin Patch` to `*** End Patch`.")


@dataclass(frozen=True)
class _Step:
    """One file that is written, moved or removed, and how it was before."""

    path: str
    before: bytes | None
    after: bytes | None
    report: str
    moved_from: str = ""


async def apply_patch(arguments: ApplyPatch, hands: Hands) -> ToolOutcome:
    steps: list[_Step] = []
    for change in parse_patch(arguments.patch):
        refuse_foreign(change.path, hands)
        try:
            steps += await _plan(change, hands)
        except (ToolRejected, NotFound) as exc:
            if "nothing applied" in exc.message:
                raise
            raise ToolRejected(f"{exc}; nothing applied. Send the patch again without this file") from exc
    await _carry_out(steps, hands)
    paths = [path for step in steps for path in (step.moved_from, step.path) if path]
    report = [step.report for step in steps if step.report]
    return ToolOutcome("\n".join([*report, note_outside(paths, hands)]).rstrip(), changed=True)


async def _plan(change: FileChange, hands: Hands) -> list[_Step]:
    before = await _read(change.path, hands)
    if change.action == "add":
        if before:
            raise ToolRejected(
                f"{change.path} exists ({len(split(decode(before)))} lines); nothing applied. "
                "Use `*** Update File`, or write_file with overwrite=true"
            )
        after = encode(change.content)
        lines = len(split(change.content))
        report = [f"{change.path}: written, {lines} lines.", new_syntax_errors(change.path, b"", after)]
        return [_Step(change.path, before, after, _join(report))]
    if before is None:
        raise NotFound(f"{change.path}: not found; nothing applied", mend="look with list_files or search")
    if change.action == "delete":
        return [_Step(change.path, before, None, f"{change.path}: deleted.")]
    done = apply_hunks(change.path, decode(before), change.hunks)
    after = encode(done.text)
    target = change.move_to or change.path
    report = [
        f"{target}: {len(done.places)} place{'s' if len(done.places) != 1 else ''} changed.",
        changed_places(split(done.text), done.places),
        new_syntax_errors(target, before, after),
    ]
    if clean(target) == clean(change.path):
        return [_Step(change.path, before, after, _join(report))]
    refuse_foreign(target, hands)
    if await _read(target, hands) is not None:
        raise ToolRejected(
            f"{target} exists, {change.path} cannot be moved there; nothing applied. Delete it first"
        )
    report.insert(0, f"{change.path}: moved to {target}.")
    return [_Step(target, before, after, _join(report), moved_from=change.path)]


async def _read(path: str, hands: Hands) -> bytes | None:
    try:
        return await read_before(path, hands)
    except NotFound:
        return None


async def _carry_out(steps: list[_Step], hands: Hands) -> None:
    """Whatever the sandbox refuses half-way (a directory in the way, a path that leaves the repository) is
    undone before the model hears of it."""
    for n, step in enumerate(steps):
        key = f"{hands.key}/{n}"
        try:
            if step.moved_from:
                await hands.sandbox.move(step.moved_from, step.path, key=f"{key}/move")
            await _put(step.path, step.after, hands, key)
        except (ToolRejected, NotFound) as exc:
            for m, done in enumerate(steps[:n]):
                await _undo(done, hands, f"{hands.key}/{m}/undo")
            raise ToolRejected(f"{exc}; nothing applied. Send the patch again without this file") from exc


async def _put(path: str, content: bytes | None, hands: Hands, key: str) -> None:
    if content is None:
        await hands.sandbox.delete(path, key=key)
    else:
        await hands.sandbox.write(path, content, key=key)


async def _undo(step: _Step, hands: Hands, key: str) -> None:
    await _put(step.path, step.before, hands, key)
    if step.moved_from:
        await hands.sandbox.move(step.path, step.moved_from, key=f"{key}/move")


def _join(parts: list[str]) -> str:
    return "\n".join(part for part in parts if part)


def _preview(arguments: dict[str, Any]) -> str:
    try:
        return " ".join(change.path for change in parse_patch(str(arguments.get("patch", ""))))
    except ToolRejected:
        return ""


APPLY_PATCH = Tool(
    "apply_patch",
    "Change files by a patch, all or none. Shows the changed lines and syntax errors that are new.\n"
    "*** Begin Patch\n*** Update File: path/a.py\n@@ def place_to_look\n context line\n-old line\n+new line\n"
    "*** Add File: path/b.py\n+every line with a plus\n*** Delete File: path/c.py\n*** End Patch\n"
    "`*** Move to: path` after an Update header renames. Paths are relative to the repository.",
    ApplyPatch,
    apply_patch,
    _preview,
)
