"""Log lines: their form, their place, and what is never in them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from swarmrun.durable.bridge import Bridge
from swarmrun.errors import InvalidResource
from swarmrun.observability import logs
from swarmrun.observability.place import Place, at

KEY = "sk-abcdefgh0123456789xyz"
PLACE = Place(run="r-1", namespace="team", name="shop", task="a", role="coder", attempt=2, turn=7)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, list(root.handlers), {n: logging.getLogger(n).level for n in logs.OURS}
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)


def written(form: str = "json", **env: str) -> io.StringIO:
    stream = io.StringIO()
    logs.set_up({"SWARMRUN_LOG_FORMAT": form, **env}, stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_carries_its_place_and_nothing_that_is_not_known() -> None:
    stream = written()
    log = logging.getLogger("swarmrun.x")
    with at(PLACE):
        log.info("says %s", "this")
    log.warning("elsewhere")
    first, second = lines(stream)
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "INFO",
        "logger": "swarmrun.x",
        "message": "says this",
        "run": "r-1",
        "namespace": "team",
        "name": "shop",
        "task": "a",
        "role": "coder",
        "attempt": 2,
        "turn": 7,
    }
    assert second.keys() == {"time", "level", "logger", "message"}


def test_text_lines_carry_it_too() -> None:
    stream = written("text")
    with at(PLACE):
        logging.getLogger("swarmrun").info("hello")
    assert "INFO swarmrun hello [run=r-1 namespace=team name=shop task=a" in stream.getvalue()


def test_the_place_goes_with_a_coroutine_to_the_shared_loop() -> None:
    stream = written()
    bridge = Bridge()

    async def work() -> None:
        await asyncio.sleep(0)
        logging.getLogger("swarmrun").info("there")

    with at(PLACE):
        bridge.run(work())
    bridge.close()
    assert lines(stream)[0]["task"] == "a"


def test_a_message_of_several_lines_is_one_line_of_json() -> None:
    stream = written()
    logging.getLogger("swarmrun").error("one\ntwo “three”")
    assert [line["message"] for line in lines(stream)] == ["one\ntwo “three”"]


def test_an_exception_tells_where_and_what_but_is_cut_and_holds_no_key() -> None:
    stream = written(MODEL_KEY="hunter2hunter2")
    try:
        try:
            raise KeyError(f"hunter2hunter2 {KEY} " + "x" * 5000)
        except KeyError as exc:
            raise RuntimeError("while working") from exc
    except RuntimeError:
        logging.getLogger("swarmrun").exception("step %s with %s", "merge", KEY)
    (line,) = lines(stream)
    assert "test_logs.py" in line["error"]
    assert line["error"].index("KeyError") < line["error"].index("RuntimeError: while working")
    assert len(line["error"]) < 2000
    for secret in (KEY, "hunter2hunter2"):
        assert secret not in stream.getvalue()
    assert "[secret removed]" in line["message"]


def test_an_input_that_does_not_fit_is_named_without_its_value() -> None:
    class Model(BaseModel):
        number: int

    stream, answer = written(), {"number": " ".join(("what", "the", "model", "said"))}
    try:
        Model.model_validate(answer)
    except ValueError:
        logging.getLogger("swarmrun").exception("step")
    (line,) = lines(stream)
    assert "number: Input should be a valid integer" in line["error"]
    assert "what the model said" not in stream.getvalue()


def test_a_private_key_leaves_the_line_whole() -> None:
    stream = written()
    logging.getLogger("swarmrun").warning("-----BEGIN RSA PRIVATE KEY-----\nMIIEow")
    assert lines(stream)[0]["message"] == "[secret removed]"


def test_strangers_that_would_log_contents_are_kept_quiet_at_any_level() -> None:
    stream = written(SWARMRUN_LOG="DEBUG")
    for name in ("openai._base_client", "httpx", "agent_framework", "azure", "opentelemetry.exporter"):
        logging.getLogger(name).info("Request options: the whole prompt")
    logging.getLogger("swarmrun.y").debug("ours")
    assert [line["message"] for line in lines(stream)] == ["ours"]


@pytest.mark.parametrize(
    ("env", "words"), [({"SWARMRUN_LOG_FORMAT": "xml"}, "text or json"), ({"SWARMRUN_LOG": "LOUD"}, "DEBUG")]
)
def test_a_setting_that_cannot_be_is_named(env: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidResource, match=words):
        logs.set_up(env)
