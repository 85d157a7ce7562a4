"""Checks of one task in its own sandbox: acceptance, the tests that touch its diff, lint."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from pathlib import PurePosixPath

from swarmrun.activities import briefs, gates
from swarmrun.activities.commands import run_to_end
from swarmrun.activities.world import RunWorld
from swarmrun.agents.finish import Problem
from swarmrun.api.plan import Task
from swarmrun.api.run import Gate
from swarmrun.code.imports import imports
from swarmrun.code.tests import is_test
from swarmrun.errors import NotFound
from swarmrun.ports import ExecResult, Sandbox
from swarmrun.steps import Call, Finish
from swarmrun.verifying.gates import parse

ACCEPTANCE_SECONDS = 600
TEST_SECONDS = 900


def for_agent(world: RunWorld, given: Call) -> Callable[[str], Awaitable[str]] | None:
    """What the tool `run_checks` does; None for roles without a task in the plan."""
    task = briefs.task_of(world, given, given.brief) if given.brief.plan else None
    if given.box is None:
        return None
    box_ref = given.box

    async def run(which: str) -> str:
        box = await world.provider.connect(box_ref.id)
        if which == "acceptance":
            return await _acceptance_text(box, task)
        return await _gates_text(world, given, box, which)

    return run


async def _acceptance_text(box: Sandbox, task: Task | None) -> str:
    commands = [a for a in task.acceptance if a.command] if task else []
    if not commands:
        return "No acceptance check of this task has a command. Look at its criteria yourself."
    rows: list[str] = []
    for check in commands:
        done = await run_to_end(box, check.command, timeout_s=ACCEPTANCE_SECONDS)
        rows.append(f"{'ok' if done.exit_code == 0 else 'FAILED'}: {check.description} (`{check.command}`)")
        if done.exit_code != 0:
            rows.append(done.stdout.strip()[-3000:])
    return "\n".join(rows)


async def _gates_text(world: RunWorld, given: Call, box: Sandbox, which: str) -> str:
    """Test or lint gates as the run will use them; failures marked `new` or `baseline`."""
    known = await asyncio.to_thread(gates.gates_of, world, given.brief.base)  # git, beside the shared loop
    wanted = [g for g in known if is_lint(g.name, g.command) == (which == "lint")]
    if not wanted:
        return f"The repository shows no {which}. Run what fits with exec."
    before = {o.gate: set(o.failures) for o in gates.baseline_of(world)}
    rows: list[str] = []
    for gate in wanted:
        done = await run_to_end(box, gate.command, timeout_s=gate.timeout_seconds, cap=20_000)
        outcome = parse(gate, done.stdout, None if done.timed_out else done.exit_code)
        rows.append(f"{gate.name}: {'passed' if outcome.passed else 'FAILED'} (`{gate.command}`)")
        old = before.get(gate.name, set())
        rows += [f"  {'baseline' if f in old else 'new'}: {f}" for f in outcome.failures[:40]]
        if not outcome.passed:
            rows.append(gates.first_failure(done.stdout))
    return "\n".join(rows)


LINTERS = ("ruff", "lint", "fmt", "format", "eslint", "vet", "mypy", "pyright", "tsc", "flake8", "black")


def is_lint(name: str, command: str) -> bool:
    return any(word in f"{name} {command}" for word in LINTERS)


# ---------------------------------------------------------------- at the end of a task


def acceptance(world: RunWorld, given: Finish, task: Task) -> list[Problem]:
    assert given.box is not None
    box = world.box(given.box)
    problems: list[Problem] = []
    for check in task.acceptance:
        if not check.command:
            continue
        done = world.run(run_to_end(box, check.command, timeout_s=ACCEPTANCE_SECONDS))
        if done.exit_code != 0:
            problems.append(
                Problem("acceptance", f"{check.description} (`{check.command}` {_how(done)})", done.stdout)
            )
    return problems


def affected_tests(world: RunWorld, given: Finish, commit: str, changed: list[str]) -> list[Problem]:
    """Python tests in the diff, and those that import a module of it. Failures the base had do not count.

    A test that fails only because another task's scaffold is not filled yet is that task's business.
    """
    assert given.box is not None
    selected = select(world, commit, changed)
    if not selected:
        return []
    box = world.box(given.box)
    # Acceptance across modules is written against the scaffold: it must load now, and be green once merged.
    only = "--collect-only " if given.role == "test-writer" else ""
    command = f"python3 -m pytest {only}-q -rfE --no-header -p no:cacheprovider " + " ".join(
        map(shlex.quote, selected)
    )
    done = world.run(run_to_end(box, command, timeout_s=TEST_SECONDS, cap=40_000))
    if done.exit_code in (0, 5) or "No module named pytest" in done.stdout:
        return []
    ours = Gate(name="affected", command=command, timeout_seconds=TEST_SECONDS)
    failures = parse(ours, done.stdout, None if done.timed_out else done.exit_code).failures
    old = {f for o in gates.baseline_of(world) for f in o.failures}
    new = [f for f in failures if f not in old]
    if failures and not new:
        return []
    if "NotImplementedError" in done.stdout and not (set(new) & {f for f in new if _own(f, changed)}):
        return []
    return [Problem("test", f"tests fail: {', '.join(new[:10]) or _how(done)} (`{command}`)", done.stdout)]


def _own(failure: str, changed: list[str]) -> bool:
    return failure.partition("::")[0] in changed


def select(world: RunWorld, commit: str, changed: list[str]) -> list[str]:
    """Test files of the commit that are in the diff or import what is; below a conftest.py that does, all: its
    fixtures are used without an import."""
    paths = [e.path for e in world.repo.list_tree(commit)]
    tests = [p for p in paths if p.endswith(".py") and is_test(p)]
    modules = {_module(p) for p in changed if p.endswith(".py")}
    found: list[str] = []
    for path in tests:
        if path in changed:
            found.append(path)
            continue
        try:
            source = world.repo.read(commit, path)
        except NotFound:
            continue
        names = {i.module for i in imports(source)} | {
            f"{i.module}.{n}" for i in imports(source) for n in i.names
        }
        if names & modules:
            found.append(path)
    homes = [f.removesuffix("conftest.py") for f in found if f.rpartition("/")[2] == "conftest.py"]
    return [t for t in tests if t in found or any(t.startswith(home) for home in homes)]


def _module(path: str) -> str:
    parts = PurePosixPath(path.removeprefix("src/")).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _how(done: ExecResult) -> str:
    return "timed out" if done.timed_out else f"exited with {done.exit_code}"
