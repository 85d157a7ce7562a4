"""The program as another commit might have it: the same activities, an orchestration with other steps.

    python tests/e2e/other_program.py DIRECTORY

writes a copy of everything that an image is built from into DIRECTORY, patched. An image of it is built as always
(`operator-image/Dockerfile`, context DIRECTORY) and stands for an older or newer release: a run that one of the two
has begun must be finished by the other.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PATCHES = {
    # A step more before every merge.
    "orchestration/batches.py": (
        "    order = yield from merging.order(",
        '    yield from desk.evidence("before-merge", "another program merges")\n'
        "    order = yield from merging.order(",
    ),
    # A timer more in every turn of an agent.
    "orchestration/agent.py": (
        "            reply = yield from self.model_turn()\n",
        "            yield self.ctx.create_timer(timedelta(milliseconds=1))\n"
        "            reply = yield from self.model_turn()\n",
    ),
    # A step more before the first, and the report saved before anyone judges.
    "orchestration/run.py": (
        '    if desk.stage == "looking":\n',
        '    yield from desk.evidence("hello", "another program looks")\n    if desk.stage == "looking":\n',
    ),
    # Each sample of the judge after the one before it instead of beside it.
    "orchestration/judge_and_fix.py": (
        '    desk.show(Phase.JUDGING, f"round {number}")\n',
        '    desk.show(Phase.JUDGING, f"round {number}")\n'
        '    yield from desk.evidence("before-judging", "another program judges")\n',
    ),
}


def patched(operator: Path) -> Path:
    """A copy of the package's tree at `operator`; what PYTHONPATH must name."""
    shutil.copytree(ROOT / "operator", operator, ignore=shutil.ignore_patterns("__pycache__"))
    patch(operator)
    return operator


def patch(operator: Path) -> None:
    """Raises ValueError when the sources have moved on: then the patches have to, as well."""
    for name, (before, after) in PATCHES.items():
        path = operator / "swarmrun" / name
        text = path.read_text()
        if text.count(before) != 1:
            raise ValueError(f"{name} has {text.count(before)} places for {before!r}")
        path.write_text(text.replace(before, after))


def main(target: str) -> None:
    leave = shutil.ignore_patterns("__pycache__", ".git", ".venv", "build", "tests", "bench")
    shutil.copytree(ROOT, target, ignore=leave, dirs_exist_ok=True)
    patch(Path(target) / "operator")


if __name__ == "__main__":
    main(*sys.argv[1:])
