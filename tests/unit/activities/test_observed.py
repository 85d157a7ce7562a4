"""What one execution of a step leaves in logs and metrics."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from swarmrun.activities import registry
from swarmrun.errors import BadModelOutput
from swarmrun.observability.logs import JsonLines
from swarmrun.observability.metrics import REGISTRY
from swarmrun.ports import Usage
from swarmrun.steps import MODEL_TURN, TOOL_CALL, Brief


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def lost() -> float:
    return sum(
        s.value for m in REGISTRY.collect() for s in m.samples if s.name == "swarmrun_sandboxes_lost_total"
    )


def test_a_lost_sandbox_is_counted_once_and_one_that_nobody_saw_die_is_not(coder: Any, lab: Any) -> None:
    before, retries = (
        lost(),
        value("swarmrun_activity_duration_seconds_count", step="tool_call", outcome="retry"),
    )
    coder.says(("exec", {"command": "true"}), ("read_file", {"path": "calc.py"}))
    lab.kill(coder.box)
    for index in (0, 1):
        assert lab.failed(TOOL_CALL, coder.call(index)).lost
    assert lost() == before + 1
    after = value("swarmrun_activity_duration_seconds_count", step="tool_call", outcome="retry")
    assert after == retries + 2
    lab.another_process()
    gone = coder.call(0)
    gone.box.generation = 9
    assert lab.failed(TOOL_CALL, gone).reason == "SandboxGone"
    assert lost() == before + 1


def test_a_tool_that_a_model_made_up_has_no_label_of_its_own(coder: Any) -> None:
    before = value("swarmrun_tool_calls_total", tool="unknown", ok="false")
    coder.says(("sudo_make_me_a_sandwich", {}))
    assert not coder.runs(0).ok
    assert value("swarmrun_tool_calls_total", tool="unknown", ok="false") == before + 1
    assert value("swarmrun_tool_calls_total", tool="sudo_make_me_a_sandwich", ok="false") == 0


def test_a_useless_answer_is_counted_as_paid_and_a_stored_reply_is_not_paid_again(
    coder: Any, lab: Any
) -> None:
    def told() -> tuple[float, ...]:
        return (
            value("swarmrun_model_calls_total", tier="standard", outcome="ok"),
            value("swarmrun_model_calls_total", tier="standard", outcome="CutOff"),
            value("swarmrun_tokens_total", tier="standard", kind="output"),
            value("swarmrun_turns_total", role="coder"),
        )

    before = told()
    lab.model.will(BadModelOutput("cut off", usage=Usage(input=7, output=3), reason="CutOff"))
    coder.turn = 1
    assert lab.failed(MODEL_TURN, coder.asked()).usage.output == 3
    coder.turn = 0
    coder.says(("read_file", {"path": "calc.py"}))
    assert lab.ok(MODEL_TURN, coder.asked()).replayed
    assert tuple(now - then for now, then in zip(told(), before, strict=True)) == (1, 1, 3 + 10, 1)


def test_what_a_step_logs_says_where_it_was(coder: Any, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[dict[str, Any]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonLines().format(record)))

    def broken(world: Any, given: Any) -> Any:
        raise RuntimeError("the tool said: " + "x" * 5000)

    kind, _ = registry.BODIES[TOOL_CALL.name]
    monkeypatch.setattr(registry, "BODIES", {**registry.BODIES, TOOL_CALL.name: (kind, broken)})
    handler = Kept()
    registry.log.addHandler(handler)
    coder.turn = 3
    failed = lab.failed(TOOL_CALL, coder.call(0, brief=Brief()))
    registry.log.removeHandler(handler)
    assert failed.reason == "InternalError"
    (line,) = lines
    assert line["message"] == "step tool_call"
    assert {k: line[k] for k in ("run", "name", "task", "role", "attempt", "turn")} == {
        "run": lab.run,
        "name": "x",
        "task": "sums",
        "role": "coder",
        "attempt": 1,
        "turn": 3,
    }
    assert "RuntimeError" in line["error"]
    assert len(line["error"]) < 2000
