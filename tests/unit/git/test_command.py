from __future__ import annotations

import os
import selectors
import subprocess
import threading
import time
from pathlib import Path

import pytest

from swarmrun.errors import GitError, InvalidResource
from swarmrun.git import command
from swarmrun.git.command import git, scrub


def alias(text: str) -> dict[str, str]:
    """A git command that runs a shell: stands in for a git that hangs or floods."""
    return {"alias.stub": f"!{text}"}


def test_a_command_out_of_time_is_killed_with_all_its_children(work):
    started = time.monotonic()
    with pytest.raises(GitError) as caught:
        git("stub", config=alias("sleep 60 & echo $! > child; sleep 60"), cwd=work.path, timeout=0.3)
    assert caught.value.reason == "TimedOut"
    assert time.monotonic() - started < 20
    child = int((work.path / "child").read_text())
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.02)
    pytest.fail("the child is still running")


def test_output_over_the_cap_is_stopped(work):
    with pytest.raises(GitError, match="more than 1000 bytes"):
        git("stub", config=alias("yes"), cwd=work.path, cap=1000)
    cut = git("stub", config=alias("yes"), cwd=work.path, cap=1000, cut_ok=True)
    assert (len(cut.stdout), cut.cut) == (1000, True)


def test_a_helper_that_outlives_git_is_not_waited_for(work):
    started = time.monotonic()
    assert git("stub", config=alias("sleep 8 >&2 & echo done"), cwd=work.path).text == "done"
    assert time.monotonic() - started < 6


def test_what_git_prints_in_its_last_moment_is_not_lost(work, monkeypatch):
    # Of many processes on few cores this one may wait long between looking at the pipes and at git.
    poll = subprocess.Popen.poll

    def late(process):
        if process.returncode is None:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return poll(process)

    monkeypatch.setattr(subprocess.Popen, "poll", late)
    assert git("stub", config=alias("sleep 0.2; echo done"), cwd=work.path).text == "done"


def test_large_input_and_output_do_not_block_each_other(work):
    data = os.urandom(3_000_000)
    assert git("stub", config=alias("cat"), cwd=work.path, stdin=data).stdout == data


def test_the_environment_holds_no_stranger(monkeypatch):
    for name in ("GIT_DIR", "GIT_CONFIG_COUNT", "GIT_TRACE", "GIT_EXTERNAL_DIFF", "SECRET_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    clean, own = command.environment(user_config=False), command.environment(user_config=True)
    assert not {"GIT_DIR", "GIT_CONFIG_COUNT", "GIT_TRACE", "GIT_EXTERNAL_DIFF", "SECRET_KEY"} & set(clean)
    assert not {"GIT_DIR", "GIT_CONFIG_COUNT", "GIT_TRACE", "GIT_EXTERNAL_DIFF"} & set(own)
    assert clean["HTTPS_PROXY"] == own["HTTPS_PROXY"] == "http://proxy.invalid"
    assert clean["GIT_CONFIG_GLOBAL"] == os.devnull
    assert own["HOME"] == os.environ["HOME"]


def test_the_repositorys_own_traps_do_not_run(work):
    head = work.commit({"a.txt": "1\n", ".gitattributes": "*.txt diff=trap\n"})
    trap = f"touch '{work.path}/sprung'; cat"
    for key in ("diff.external", "diff.trap.command", "diff.trap.textconv", "core.fsmonitor", "core.pager"):
        work.git("config", key, trap)
    from swarmrun.git.objects import Objects

    second = work.commit({"a.txt": "2\n"})
    (work.path / "sprung").unlink(missing_ok=True)
    assert "+2" in Objects(work.path).diff(head, second)
    assert not (work.path / "sprung").exists()


@pytest.mark.parametrize(
    "text",
    [
        "fatal: unable to access 'https://ann:t0ken@host/x/': 500",
        "Authorization: Basic dDBrZW4=t0ken",
        "authorization: bearer t0ken",
        "the token is t0ken",
    ],
)
def test_secrets_are_removed_from_messages(text):
    assert "t0ken" not in scrub(text, ["t0ken"])
    assert scrub("https://user:other@host/x") == "https://***@host/x"


def test_a_failure_carries_what_git_printed(work):
    with pytest.raises(GitError, match="not a git command") as caught:
        git("frobnicate", cwd=work.path)
    assert "frobnicate" in caught.value.output
    with pytest.raises(GitError, match="no such directory"):
        git("status", cwd=work.path / "nowhere")


@pytest.mark.parametrize("value", ["", "HEAD", "--all", "a" * 39, "A" * 40, "a" * 40 + "\n"])
def test_only_full_ids_are_commits(value):
    with pytest.raises(InvalidResource):
        command.checked_sha(value)


def test_no_thread_stays_behind(work):
    before = threading.active_count()
    for _ in range(5):
        git("rev-parse", "--git-dir", cwd=work.path)
    assert threading.active_count() <= before


def test_git_is_new_enough():
    assert tuple(
        map(int, subprocess.check_output(["git", "version"], text=True).split()[2].split(".")[:2])
    ) >= (2, 38)


def test_what_git_wrote_at_its_very_end_is_not_lost(monkeypatch, work):
    """On a busy machine git writes and ends between a look at its pipes and a look at itself."""

    class Late(selectors.DefaultSelector):
        looked = 0

        def select(self, timeout=None):
            self.looked += 1
            if self.looked == 1 and timeout:  # of one that had ended already nothing can come later
                time.sleep(0.5)  # git has ended long before
                return []
            return super().select(timeout)

    monkeypatch.setattr(command.selectors, "DefaultSelector", Late)
    work.commit({"a": "1"})
    assert len(git("rev-parse", "HEAD", cwd=work.path).text) == 40
