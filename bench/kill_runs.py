"""kill -9 of the whole demo: at every step boundary of an uninterrupted run, and at random instants.

    python bench/kill_runs.py [--seed N] [--kinds recorded,done] [--kills-per-run 12] [--instants 10] [--only TEXT]

After each kill `swarmrun resume` goes on. A run that was killed must end as the uninterrupted one did: published
tree, tree at the end of every turn, pushes, and no reply paid again that had been stored (`tests/e2e/killing.py`).
Prints a line a run, writes build/bench/kill_runs.json, exits 1 when one differed. Takes minutes.

To be quick, one run is killed at several boundaries, a dozen steps apart; `--kills-per-run 1` gives each its own.
A boundary that timing kept a run from reaching (which branches are merged first differs) is counted and told.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from killing import KilledRun, Outcome  # noqa: E402
from lab import Lab  # noqa: E402

from swarmrun.cassette.server import CassetteServer  # noqa: E402

EARLY = 0.7
"""Share of the uninterrupted time within which instants lie: a later run may be quicker. A choice."""
EXAMPLE = ROOT / "examples" / "url-shortener"


def demo(how: Callable[[KilledRun], Outcome]) -> tuple[Outcome, list[str]]:
    """The example in a fresh place, its models served by this process; and the boundaries it did not reach."""
    with tempfile.TemporaryDirectory(prefix="swarmrun-kill-") as place:
        lab = Lab(Path(place))
        example = shutil.copytree(EXAMPLE, lab.root / "examples" / "url-shortener")
        (lab.root / "build" / "demo").mkdir(parents=True)
        lab.repository("build/demo/url-shortener")
        with CassetteServer(example / "cassette.yaml", quiet=True) as server:
            file = example / "run.yaml"
            file.write_text(file.read_text().replace("cassette:cassette.yaml", server.url))
            run = KilledRun(lab, server, str(file), "url-shortener", "build/demo/url-shortener")
            try:
                outcome = how(run)
            finally:
                lab.close()
            return outcome, run.due.read_text().splitlines() if run.due.exists() else []


def main() -> None:
    words = argparse.ArgumentParser(description="kill -9 of whole runs")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--kinds", default="recorded,done")
    words.add_argument("--kills-per-run", type=int, default=12)
    words.add_argument("--instants", type=int, default=10)
    words.add_argument("--only", default="", help="boundaries that hold this text")
    given = words.parse_args()
    seed = given.seed or random.SystemRandom().randrange(1, 1 << 31)
    print(f"seed {seed}", flush=True)

    whole, _ = demo(lambda run: run.at([]))
    if whole.code != 0:
        sys.exit(f"the uninterrupted run failed:\n{whole.said}")
    kinds = tuple(given.kinds.split(","))
    boundaries = [b for b in whole.seen if b.startswith(kinds) and given.only in b]
    print(
        f"uninterrupted: {whole.seconds:.0f} s, tree {whole.tree}, {len(boundaries)} boundaries", flush=True
    )

    kills, wrong, runs, missed = 0, 0, 0, list[str]()

    def tell(what: str, outcome: Outcome) -> None:
        nonlocal kills, wrong, runs
        different = outcome.differences(whole)
        kills, wrong, runs = kills + outcome.kills, wrong + bool(different), runs + 1
        verdict = "same" if not different else "DIFFERENT\n    " + "\n    ".join(different)
        if not different and (path := outcome.otherwise(whole)):
            verdict += f" (by another way: {path})"
        print(
            f"{what}: {outcome.kills} kills, {outcome.seconds:.0f} s, {outcome.asked_again} asked again: {verdict}",
            flush=True,
        )

    groups = -(-len(boundaries) // given.kills_per_run)
    for number in range(groups):
        due = boundaries[number::groups]
        outcome, left = demo(lambda run, due=due: run.at(due))
        missed += left
        tell(f"boundaries, {number + 1} of {groups}", outcome)
        if outcome.differences(whole):
            print("    killed at: " + "; ".join(b for b in due if b not in left), flush=True)
    for number in range(given.instants):
        chance = random.Random(seed + number)
        outcome, _ = demo(lambda run, chance=chance: run.at_instants(chance, 1, whole.seconds * EARLY))
        tell(f"instant {number + 1} of {given.instants}", outcome)

    for boundary in missed:
        print(f"not reached: {boundary}")
    print(f"{runs - wrong} of {runs} runs the same after {kills} kills; {len(missed)} boundaries not reached")
    figure = {
        "name": "runs that kill -9 made different",
        "value": wrong,
        "unit": "runs",
        "goal": 0,
        "met": wrong == 0,
        "note": f"{runs} runs, {kills} kills, {len(boundaries)} boundaries, {len(missed)} not reached, seed {seed}",
    }
    out = ROOT / "build" / "bench" / "kill_runs.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([figure], indent=1) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
