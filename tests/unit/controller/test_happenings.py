"""Which Events come of two statuses."""

from __future__ import annotations

from swarmrun.api.status import AgentPhase, AgentStatus, Condition, Phase, SwarmRunStatus
from swarmrun.controller.happenings import happenings

ENDED = "storage: attempt 1 ended ToolRejected: too large to be stored; one fresh attempt"
LOST = "storage: sandbox 2 of attempt 1 was lost: ServerEnded: its server ended"


def status(phase: AgentPhase, attempts: int, *notes: str) -> SwarmRunStatus:
    agent = AgentStatus(task="storage", role="coder", phase=phase, attempts=attempts)
    return SwarmRunStatus(agents=[agent], notes=list(notes))


def told(before: SwarmRunStatus, after: SwarmRunStatus) -> list[tuple[str, str, str]]:
    return [(h.type, h.reason, h.message) for h in happenings(before, after)]


def test_a_failed_attempt_is_told_though_the_next_one_runs_already():
    before, after = status(AgentPhase.RUNNING, 1), status(AgentPhase.RUNNING, 2, "waited 1 s", ENDED)
    assert told(before, after) == [
        ("Warning", "AgentFailed", ENDED),
        ("Normal", "AgentRunning", "storage (attempt 2): coder"),
    ]
    assert told(after, status(AgentPhase.RUNNING, 2, ENDED[:60])) == []


def test_a_failure_that_a_status_has_shown_is_told_once():
    shown = status(AgentPhase.FAILED, 1)
    shown.agents[0].reason, shown.agents[0].message = "ToolRejected", "too large to be stored"
    (event,) = told(status(AgentPhase.RUNNING, 1), shown)
    assert event[:2] == ("Warning", "AgentFailed")
    assert ENDED.startswith(event[2]), "the same words, whichever status was seen"
    assert told(shown, status(AgentPhase.PENDING, 1, ENDED)) == []


def test_a_sandbox_that_was_lost_is_told():
    before, after = status(AgentPhase.RUNNING, 1), status(AgentPhase.RUNNING, 1, LOST)
    assert told(before, after) == [("Warning", "SandboxLost", LOST)]
    assert told(after, status(AgentPhase.RUNNING, 1, LOST[:60])) == []


def test_the_same_loss_in_the_next_attempt_is_told_again():
    again = LOST.replace("attempt 1", "attempt 2")
    before, after = status(AgentPhase.RUNNING, 2, LOST), status(AgentPhase.RUNNING, 2, LOST, again)
    assert told(before, after) == [("Warning", "SandboxLost", again)]


def test_a_loss_in_the_words_of_an_earlier_version_is_told():
    before, after = (
        status(AgentPhase.RUNNING, 1),
        status(AgentPhase.RUNNING, 1, "storage: sandbox 2 was lost: x"),
    )
    assert [event[1] for event in told(before, after)] == ["SandboxLost"]


def test_what_is_asked_of_an_ended_run_in_vain_is_told_once():
    def ended(reason: str) -> SwarmRunStatus:
        made = [
            Condition(type="Ready", status="True", reason="Published"),
            Condition(
                type="Stalled",
                status="True" if reason else "False",
                reason=reason or "Published",
                message="m",
            ),
        ]
        return SwarmRunStatus(phase=Phase.SUCCEEDED, conditions=made)

    assert told(ended(""), ended("InvalidAnnotation")) == [("Warning", "InvalidAnnotation", "m")]
    assert told(ended("InvalidAnnotation"), ended("InvalidAnnotation")) == []
    assert told(ended("InvalidAnnotation"), ended("")) == []
