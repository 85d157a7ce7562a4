from __future__ import annotations

import subprocess

import pytest

from swarmrun.errors import InvalidResource
from swarmrun.git import trailers


def by_git(message: str) -> dict[str, str]:
    done = subprocess.run(
        ["git", "interpret-trailers", "--parse"], input=message, capture_output=True, text=True, check=True
    )
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


MESSAGES = [
    "subject",
    "subject\n\nbody\n",
    "subject\n\nbody\n\nSigned-off-by: Ann <a@b>\n",
    "subject\n\nKey: not a trailer\nbecause of this line\nand this one\nand a third one\nand more",
    "subject\r\n\r\nbody: text\r\n\r\nA: b\r\n",
    "Subject: looks like one",
    "subject\n\nA: first\n  goes on\n",
    "",
]


@pytest.mark.parametrize("message", MESSAGES)
def test_what_is_added_is_read_back_here_and_by_git(message):
    wanted = trailers.run_trailers(run="r-1", task="t", spec_hash="abc")
    text = trailers.add(message, wanted)
    assert wanted.items() <= trailers.parse(text).items()
    assert wanted.items() <= by_git(text).items()
    assert trailers.add(text, wanted) == text


@pytest.mark.parametrize("message", MESSAGES)
def test_git_and_we_read_the_same(message):
    assert trailers.parse(message) == by_git(message.replace("\r\n", "\n"))


def test_other_trailers_stay():
    text = trailers.add("s\n\nSigned-off-by: Ann <a@b>\n", {"SwarmRun-Run": "1"})
    assert trailers.parse(text) == {"Signed-off-by": "Ann <a@b>", "SwarmRun-Run": "1"}


@pytest.mark.parametrize("value", ["", "a\nSwarmRun-Run: forged", "a\rb"])
def test_a_value_cannot_smuggle_another_trailer_in(value):
    with pytest.raises(InvalidResource):
        trailers.add("s", {"SwarmRun-Task": value})
