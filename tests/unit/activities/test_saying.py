"""Turns on a sandbox's standard output: said where somebody can read them, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmrun.steps import FINISH, MODEL_TURN, TOOL_CALL


@pytest.fixture
def read(lab, coder, monkeypatch):
    """The lab's sandboxes as if their output were read; gives what the coder's has printed."""
    monkeypatch.setattr(lab.provider, "logged", True)

    def printed() -> str:
        return (lab.provider._directory(coder.box.id) / "server.log").read_text()

    return printed


def test_turns_calls_and_results_are_printed_as_they_happen(lab, coder, read):
    coder.says(("exec", {"command": "echo seen"}), ("read_file", {"path": "sums.py"}))
    assert read().splitlines() == ["── coder sums, attempt 1, turn 1", "…"]
    coder.runs(0)
    assert '→ exec {"command": "echo seen"}\n  ' in read()
    assert "seen" in read()
    coder.runs(1)
    assert "  1\tdef add" in read() or "def add" in read()
    coder.finishes()
    assert read().splitlines()[-1].startswith("  ")
    assert '→ finish {"summary": "Done."}' in read()


def test_a_turn_that_is_replayed_in_a_new_sandbox_is_read_there(lab, coder, read):
    coder.says(("exec", {"command": "true"}))
    lab.kill(coder.box)
    coder.box = lab.box("sums", commit=coder.brief.base, generation=2)
    assert lab.ok(MODEL_TURN, coder.asked()).replayed
    assert read().startswith("── coder sums, attempt 1, turn 1\n")


def test_a_sandbox_that_cannot_speak_fails_no_step(lab, coder, read):
    coder.says(("exec", {"command": "true"}), ("finish", {"summary": "Done."}))
    lab.kill(coder.box)
    assert lab.ok(MODEL_TURN, coder.asked()).replayed
    assert lab.failed(TOOL_CALL, coder.call(0)).lost
    assert lab.failed(FINISH, coder.finish(1)).lost


def test_where_nobody_reads_nothing_is_said(lab, coder):
    coder.calls("exec", command="echo seen")
    log: Path = lab.provider._directory(coder.box.id) / "server.log"
    assert log.read_text() == ""
