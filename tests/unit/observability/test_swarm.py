"""A whole run by a controller and workers in processes of their own, killed half-way: what is seen of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swarmrun.observability import ids
from swarmrun.observability.previews import LIMIT
from swarmrun.steps import STEPS

pytestmark = pytest.mark.timeout(300)


def test_the_run_succeeds_in_spite_of_the_kills(swarm: Any) -> None:
    assert swarm.statuses.last.phase == "Succeeded"


# ---------------------------------------------------------------- traces


def test_all_processes_write_one_trace(swarm: Any) -> None:
    assert {s.trace for s in swarm.collector.spans} == {f"{ids.trace_id(swarm.run):032x}"}
    assert {s.service for s in swarm.collector.spans} == {"swarmrun-operator", "swarmrun-sandbox"}


def test_the_run_s_span_is_the_root_and_lasts_from_begin_to_end(swarm: Any) -> None:
    roots = [s for s in swarm.collector.spans if not s.parent]
    assert [s.name for s in roots] == ["invoke_workflow swarmrun"]
    (root,) = roots
    assert root.id == f"{ids.span_id(swarm.run):016x}"
    status = swarm.statuses.last
    assert (root.start, root.end) == (
        round(status.started_at.timestamp() * 1e9),
        round(status.finished_at.timestamp() * 1e9),
    )
    assert root.attributes["swarmrun.name"] == swarm.name
    assert root.attributes["swarmrun.reason"] == "Published"
    assert not root.failed


def test_every_span_has_its_parent_in_the_trace(swarm: Any) -> None:
    known = {s.id for s in swarm.collector.spans}
    orphans = [s for s in swarm.collector.spans if s.parent and s.parent not in known]
    # A killed worker takes the steps with it that it was at: what had ended within them is left alone.
    assert {s.process for s in orphans} <= {"worker-0"}
    assert not {s.name for s in orphans} & STEPS.keys()


@pytest.mark.parametrize(
    "way",
    [
        ["start", "invoke_workflow swarmrun"],
        ["preflight", "invoke_workflow swarmrun"],
        ["judge_tally", "invoke_workflow swarmrun"],
        ["invoke_agent coder", "invoke_workflow swarmrun"],
        ["chat recorded", "model_turn", "invoke_agent coder", "invoke_workflow swarmrun"],
        ["sandboxd exec", "sandbox exec", "execute_tool exec", "tool_call", "invoke_agent coder"],
        ["sandboxd checkpoint", "sandbox checkpoint", "checkpoint", "invoke_agent coder"],
        ["sandboxd load", "sandbox load", "sandbox_prepare", "invoke_workflow swarmrun"],
        ["execute_tool finish", "finish", "invoke_agent coder"],
    ],
)
def test_spans_stand_where_they_belong(swarm: Any, way: list[str]) -> None:
    """One of each at least goes up this way."""

    def up(span: Any, rest: list[str]) -> bool:
        if not rest:
            return True
        above = [s for s in swarm.collector.spans if s.id == span.parent]
        return bool(above) and above[0].name == rest[0] and up(above[0], rest[1:])

    first = swarm.collector.named(way[0])
    assert first, sorted({s.name for s in swarm.collector.spans})
    assert any(up(span, way[1:]) for span in first)


def test_the_work_of_the_killed_worker_and_of_the_next_hang_on_the_same_spans(swarm: Any) -> None:
    turns = swarm.collector.named("model_turn")
    assert {t.attributes["swarmrun.turn"] for t in turns} == {1, 2, 3, 4}
    assert len({t.parent for t in turns}) == 2
    assert {t.parent for t in turns} == {s.id for s in swarm.collector.named("invoke_agent coder")}


def test_a_model_call_follows_the_conventions_for_generative_ai(swarm: Any) -> None:
    calls = [
        s for s in swarm.collector.named("chat recorded") if s.attributes["gen_ai.agent.name"] == "coder"
    ]
    told = calls[0].attributes
    assert calls[0].kind == 3  # CLIENT
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == "openai"
    assert told["gen_ai.request.model"] == "recorded"
    assert told["gen_ai.usage.input_tokens"] == 1000
    assert told["gen_ai.usage.cache_read.input_tokens"] == 800
    assert told["gen_ai.usage.output_tokens"] == 50
    assert told["gen_ai.conversation.id"].startswith(f"{swarm.run}:a0")


def test_the_sandbox_s_span_is_its_own_time_within_the_call(swarm: Any) -> None:
    for inner in swarm.collector.named("sandboxd exec"):
        above = [s for s in swarm.collector.spans if s.id == inner.parent]
        assert all(outer.start <= inner.start <= inner.end <= outer.end for outer in above)
        assert inner.service == "swarmrun-sandbox"
    # The recorded commands sleep for 0.3 s.
    assert max(s.end - s.start for s in swarm.collector.named("sandboxd exec")) >= 300_000_000


# ---------------------------------------------------------------- metrics


def test_what_the_killed_worker_did_was_counted_while_it_did_it(swarm: Any) -> None:
    assert swarm.before["swarmrun_turns_total", "role=coder"] == 4
    assert swarm.before["swarmrun_tool_calls_total", "ok=true", "tool=exec"] == 4
    assert sum(v for k, v in swarm.before.items() if k[0] == "swarmrun_sandboxes_started_total") == 3
    # Both agents wait for the model.
    assert swarm.before["swarmrun_activities_running",] >= 2


def test_the_next_worker_counts_what_is_new(swarm: Any) -> None:
    """Two turns of two agents, and the judge's answer; replayed turns are not paid again."""
    told = swarm.after
    assert told["swarmrun_turns_total", "role=coder"] == 4
    calls = {k[1:]: v for k, v in told.items() if k[0] == "swarmrun_model_calls_total"}
    assert calls == {("outcome=ok", "tier=standard"): 4, ("outcome=ok", "tier=premium"): 1}
    # Three turns were checkpointed at most: what came after is done again in the new sandboxes.
    assert 2 <= told["swarmrun_tool_calls_total", "ok=true", "tool=exec"] <= 6
    assert told["swarmrun_tokens_total", "kind=cached", "tier=standard"] >= 4 * 800
    assert told["swarmrun_tokens_total", "kind=input", "tier=standard"] >= 4 * 200
    assert told["swarmrun_tokens_total", "kind=output", "tier=standard"] >= 4 * 50
    assert told["swarmrun_cost_usd_total", "tier=standard"] >= 4 * (200 * 1 + 800 * 0.1 + 50 * 2) / 1e6
    assert told["swarmrun_tool_calls_total", "ok=true", "tool=finish"] == 2
    assert told["swarmrun_tool_calls_total", "ok=true", "tool=exec"] >= 1
    assert told["swarmrun_activities_running",] == 0
    assert told["swarmrun_activity_duration_seconds_count", "outcome=ok", "step=publish"] == 1
    # The managed service does not tell what waits in it.
    assert not [key for key in told if key[0] == "swarmrun_queue_depth"]


def test_no_label_names_a_run_or_a_task(swarm: Any) -> None:
    for key in swarm.after:
        values = {label.partition("=")[2] for label in key[1:]}
        assert not {swarm.run, swarm.name, swarm.namespace, "a01", "a02"} & values


# ---------------------------------------------------------------- logs


def test_every_line_is_json_and_says_when_who_and_how_bad(swarm: Any, lines: Any) -> None:
    for worker in swarm.workers:
        told = lines(worker.log)
        assert told
        for line in told:
            assert {"time", "level", "logger", "message"} <= line.keys()


# ---------------------------------------------------------------- histories


def payloads(swarm: Any) -> list[tuple[str, str, str]]:
    """(instance, what, text) of every input and output that the engine has recorded."""
    found: list[tuple[str, str, str]] = []
    for instance in (swarm.run, f"{swarm.run}:a01:1", f"{swarm.run}:a02:1"):
        for event in swarm.engine.history(instance):
            kind = event.WhichOneof("eventType")
            inner = getattr(event, kind)
            for name in ("input", "result"):
                if kind not in ("eventRaised",) and name in inner.DESCRIPTOR.fields_by_name:
                    text = getattr(inner, name).value
                    if text:
                        found.append((instance, f"{kind}.{name}", text))
    return found


def test_every_input_and_output_in_the_histories_begins_with_a_short_text(swarm: Any, planted: Any) -> None:
    seen: dict[str, list[str]] = {}
    for _, what, text in payloads(swarm):
        shown = json.loads(text).get("preview")
        assert shown, f"{what}: {text[:300]}"
        assert len(shown.encode()) <= LIMIT
        seen.setdefault(what, []).append(shown)
    assert {
        "executionStarted.input",
        "executionCompleted.result",
        "taskScheduled.input",
        "taskCompleted.result",
        "subOrchestrationInstanceCreated.input",
        "subOrchestrationInstanceCompleted.result",
    } <= seen.keys()
    everything = "\n".join(text for texts in seen.values() for text in texts)
    for said in (
        "Keep the journals of 2 agents.",
        "coder a01, attempt 1: Journal of a01",
        "coder a01: turn 2 of 60",
        f"coder a02: turn 1, exec echo {planted.OUTPUT} [secret removed]; mkdir",
        "800 cached",
        "score 100",
        "Succeeded (Published)",
    ):
        assert said in everything, everything[:4000]


def test_the_history_of_an_agent_stays_small(swarm: Any) -> None:
    size = sum(len(text) for instance, _, text in payloads(swarm) if instance.endswith(":a01:1"))
    assert size < 40_000, size


# ---------------------------------------------------------------- what must not be seen


def places(swarm: Any) -> dict[str, bytes]:
    logs = b"".join(worker.log.read_bytes() for worker in swarm.workers)
    metrics = repr([swarm.before, swarm.after]).encode()
    histories = "\n".join(text for _, _, text in payloads(swarm)).encode()
    return {
        "logs": logs,
        "metrics": metrics,
        "spans": b"".join(swarm.collector.bodies),
        "histories": histories,
    }


def test_no_secret_and_no_content_is_in_logs_metrics_and_spans(swarm: Any, planted: Any) -> None:
    found = places(swarm)
    # What is searched is what there is.
    assert b"swarmrun.operator" in found["logs"]
    assert b"swarmrun_turns_total" in found["metrics"]
    assert swarm.run.encode() in found["spans"]
    for secret in planted.ALL:
        for where in ("logs", "metrics", "spans"):
            assert secret.encode() not in found[where], where


def test_histories_show_contents_but_no_secret(swarm: Any, planted: Any) -> None:
    histories = places(swarm)["histories"]
    assert planted.OUTPUT.encode() in histories
    assert b"[secret removed]" in histories
    assert planted.ISSUED_KEY.encode() not in histories
    assert planted.MODEL_KEY.encode() not in histories


def test_what_was_planted_was_really_there(swarm: Any, planted: Any) -> None:
    stored = b"".join(p.read_bytes() for p in Path(swarm.root / "artifacts").rglob("*") if p.is_file())
    for text in (planted.OUTPUT, planted.ISSUED_KEY, planted.PROMPT):
        assert text.encode() in stored
