"""What was recorded is decided again by another process: nothing depends on the order of a set or on chance."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from swarmrun.api.status import Phase
from swarmrun.steps import Amended, ContractIssue, Failed, Finished, Merged

CHILD = """
import sys
from pathlib import Path
import durabletask.internal.orchestrator_service_pb2 as pb
from swarmrun.durable import replay
from swarmrun.orchestration.agent import agent
from swarmrun.orchestration.run import run

for path in sorted(Path(sys.argv[1]).iterdir()):
    history = pb.HistoryChunk.FromString(path.read_bytes())
    print(path.name, replay.check([run, agent], history.events))
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_run_with_everything_in_it_replays_in_a_process_with_another_hash_seed(
    stage, coder, tmp_path, lost, seed
):
    import durabletask.internal.orchestrator_service_pb2 as pb

    stage.happy(*(coder(i, uses=["m"]) for i in "abcde"), coder("f", "a", "b", uses=["m"]))
    limited = Failed(
        reason="RateLimited", kind="RateLimited", message="429", retryable=True, retry_after=0.01
    )
    first: set[str] = set()

    def fails_once(name: str, failure: Failed):
        def hook(given):
            if given["task"] == "c" and name not in first:
                first.add(name)
                return failure
            return None

        stage.before(name, hook)

    fails_once("model_turn", limited)
    fails_once("tool_call", lost)
    fails_once("checkpoint", lost)
    stage.before(
        "merge",
        lambda g: Merged(conflicts=["m.py"], evidence="e", partial="p") if g["task"] == "d" else None,
    )
    stage.agent("integrator/integrate-d/1", "read search read", "write", "finish")
    issue = ContractIssue(contract="m", problem="p", proposal="…")
    stage.before(
        "finish",
        lambda g: (
            Finished(accepted=True, verified=True, commit="b!", contract_issues=[issue])
            if g["task"] == "b"
            else None
        ),
    )
    stage.on("amend_contract", Amended(outcome="additive", plan="plan-2", news="more"))
    stage.agent("fixer/fix-1/1", "write", "finish")
    scores = iter([40, 90])
    stage.on("judge_tally", lambda g: stage.verdict(g, next(scores)))
    assert stage.run(samples=3).phase is Phase.SUCCEEDED
    folder = tmp_path / "histories"
    folder.mkdir()
    ids = ["r1", *{f"r1:{g['task']}:{g['attempt']}" for g in stage.inputs("model_turn")}]
    for number, instance in enumerate(ids):
        chunk = pb.HistoryChunk(events=stage.engine.history(instance))
        (folder / f"{number:02d}").write_bytes(chunk.SerializeToString())
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(ids)
