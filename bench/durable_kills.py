"""Long random kill -9 loops on the durable engine: every run must end as if nothing had happened.

    python bench/durable_kills.py [RUNS=20] [KILLS=6] [SEED=random]

Each run is killed KILLS times at random instants, also while it starts, and compared with the effects of an
uninterrupted one. Prints one line a run; exits 1 when one differed. Not part of the tests: minutes long.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VICTIM = Path(__file__).resolve().parent.parent / "tests" / "engine" / "durable_victim.py"
TASKS, TURNS = 3, 7


def start(home: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        str(VICTIM),
        "run",
        str(home / "engine.db"),
        str(home / "effects"),
        str(TASKS),
        str(TURNS),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outcome(home: Path) -> tuple[object, list[str]]:
    out, err = start(home).communicate(timeout=120)
    if not out.strip():
        return f"died: {err[-400:]}", []
    effects = sorted(path.name for path in (home / "effects").iterdir() if path.name != ".calls")
    return json.loads(out.splitlines()[-1]), effects


def main(runs: int = 20, kills: int = 6, seed: int = 0) -> None:
    seed = seed or random.SystemRandom().randrange(1, 1 << 31)
    print(f"seed {seed}", flush=True)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as reference:
        expected = outcome(Path(reference))
    wrong = 0
    for number in range(runs):
        with tempfile.TemporaryDirectory() as directory:
            home = Path(directory)
            for _ in range(kills):
                process = start(home)
                time.sleep(chance.uniform(0.3, 1.1))
                process.kill()
                process.communicate()
            got = outcome(home)
            same = got == expected
            wrong += not same
            calls = len((home / "effects" / ".calls").read_text().split())
            missing = sorted(set(expected[1]) ^ set(got[1]))
            word = "same" if same else f"DIFFERENT {got[0]} {missing}"
            print(f"run {number}: {word}, {calls} calls for {len(got[1])} effects", flush=True)
    print(f"{runs - wrong} of {runs} the same")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
