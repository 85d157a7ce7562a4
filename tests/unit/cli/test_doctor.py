"""`doctor --probe` over real HTTP: a server that answers, and servers that do not."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmrun.cassette.format import Cassette
from swarmrun.cassette.server import CassetteServer
from swarmrun.cli import findings
from swarmrun.models import tiers

MODELS = Path(__file__).parents[1] / "models" / "conftest.py"
CALL = [("c1", "report_number", '{"number": 7}')]
ANSWER = {"colour": "blue", "count": 3}


def _misbehaving() -> Any:
    """The server of the tests of the models' room."""
    spec = importlib.util.spec_from_file_location("swarmrun_models_test_server", MODELS)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Misbehaving()


@pytest.fixture
def server() -> Iterator[Any]:
    made = _misbehaving()
    threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield made
    made.released.set()
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture(autouse=True)
def sound_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine lacks is none of these tests' business."""
    monkeypatch.setattr(findings, "machine", lambda home: [findings.Finding("machine", "ok", "sound")])


def about(done: Any, check: str) -> list[str]:
    """Lines of one check and of its mend."""
    lines = done.out.splitlines()
    at = next(i for i, line in enumerate(lines) if f": {check}: " in line)
    return lines[at : at + 2] if lines[at + 1 :] and lines[at + 1].startswith("  ") else lines[at : at + 1]


def test_a_model_that_does_everything_is_well(cli: Any) -> None:
    turns: list[dict[str, Any]] = [
        {"turn": 1, "text": "ready"},
        {"turn": 2, "calls": [{"name": "report_number", "arguments": {"number": 7}}]},
        {"turn": 3, "text": "noted"},
        {"turn": 4, "json": ANSWER},
    ]
    entries = [{"role": "probe", "task": "probe", **turn} for turn in turns]
    with CassetteServer(Cassette.model_validate({"model": "m", "entries": entries})) as served:
        done = cli("doctor", "--probe", "--model", "m", "--endpoint", served.url)
    assert done.code == 0, done.out + done.err
    assert {line.split()[0] for line in done.out.splitlines()} == {"ok"}
    for check in ("reachable", "key", "answers", "tools", "json"):
        assert about(done, check)


def test_a_refused_key_is_a_problem_with_its_mend(cli: Any, server: Any) -> None:
    server.play(server.status(401, "bad key sk-0123456789"))
    done = cli("doctor", "--probe", "--model", "m", "--endpoint", server.url)
    assert done.code == 1
    (line, mend) = about(done, "key")
    assert line.startswith("problem")
    assert mend.strip().startswith("mend: ")
    assert len(server.seen) == 1


def test_a_server_that_is_not_there_is_a_problem(cli: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        done = cli("doctor", "--probe", "--model", "m", "--endpoint", url)
    assert done.code == 1
    assert about(done, "reachable")[0].startswith("problem")


def test_a_server_that_says_nothing_is_not_waited_for_for_long(
    cli: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "PROBE_SECONDS", 0.3)
    server.play(server.silence())
    done = cli("doctor", "--probe", "--model", "m", "--endpoint", server.url)
    assert done.code == 1
    assert about(done, "reachable")[0].startswith("problem")


def test_a_model_without_tools_is_a_problem_one_without_schemas_only_a_hint(cli: Any, server: Any) -> None:
    server.play(
        server.says(text="ready"),
        server.status(400, "some-model does not support tools"),
        server.status(400, "response_format is not supported"),
        server.says(text=json.dumps(ANSWER)),
    )
    done = cli("doctor", "--probe", "--model", "some-model", "--endpoint", server.url)
    assert done.code == 1
    (line, mend) = about(done, "tools")
    assert line.startswith("problem")
    assert "tool calling" in mend
    (line, hint) = about(done, "json")
    assert line.startswith("ok")
    assert "hint: set profile.jsonSchema: none" in hint


def test_a_stream_without_usage_is_a_warning_and_no_failure(cli: Any, server: Any) -> None:
    server.play(
        server.chunks({"content": "ready"}), server.says(calls=CALL), server.says(text=json.dumps(ANSWER))
    )
    done = cli("doctor", "--probe", "--model", "some-model", "--endpoint", server.url)
    assert done.code == 0, done.out
    assert about(done, "usage")[0].startswith("warning")


def test_garbage_is_told_and_never_a_traceback(cli: Any, server: Any) -> None:
    server.play(server.raw(b"<html>welcome to the proxy</html>", "text/html"))
    done = cli("doctor", "--probe", "--model", "m", "--endpoint", server.url)
    assert done.code == 1
    assert "problem" in done.out
    assert "Traceback" not in done.out + done.err


def test_each_tier_of_a_class_is_asked_once(cli: Any, server: Any, tmp_path: Path) -> None:
    for _ in range(2):
        server.play(server.says(text="ready"), server.says(calls=CALL), server.says(text=json.dumps(ANSWER)))
    tier = f"endpoint: '{server.url}', auth: {{type: none}}"
    (tmp_path / "class.yaml").write_text(
        "apiVersion: swarmrun.dev/v1alpha1\nkind: SwarmClass\nmetadata: {name: c}\nspec:\n  models:\n"
        f"    premium: {{model: big, {tier}}}\n    standard: {{model: small, {tier}}}\n"
    )
    done = cli("doctor", "--probe", "-f", str(tmp_path / "class.yaml"), "-o", "json")
    assert done.code == 0, done.out
    names = {f["name"] for f in done.json}
    assert names == {"machine", "model premium (big)", "model standard (small)"}
    assert {body["model"] for body in server.seen} == {"big", "small"}
    assert len(server.seen) == 6


def test_without_a_model_the_machine_is_told_all_the_same(cli: Any) -> None:
    done = cli("doctor", "--probe")
    assert done.code == 1
    assert done.out.splitlines()[0] == "ok       machine: sound"
    assert "problem  models: no model is named" in done.out
    assert "--model NAME" in done.out


def test_a_key_that_the_server_says_back_is_not_shown(
    cli: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"sk-proj-{'verysecret' * 4}0123"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server.play(server.status(401, f"Incorrect API key provided: {key}"))
    done = cli("doctor", "--probe", "--model", "m", "--endpoint", server.url)
    assert server.headers[0]["authorization"] == f"Bearer {key}"
    assert "verysecret" not in done.out + done.err
