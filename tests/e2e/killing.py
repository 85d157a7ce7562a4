"""kill -9 of a whole run, resumed until it has ended, and what must be as if nothing had happened.

Four things are compared with an uninterrupted run: the tree that was published; the tree at the end of every
turn (the checkpoints in the artifact store: commands append, so a doubled effect shows); the pushes that the
remote's own hook logged; and the requests that the models' server, which is never killed, counted: no reply
that was stored when the kill came may be asked for again.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from lab import Lab, Started, git, tree, until

from swarmrun.artifacts.store import open_store
from swarmrun.cassette.server import CassetteServer
from swarmrun.errors import NotFound
from swarmrun.git.repo import RunRepo

PROGRAM = [sys.executable, str(Path(__file__).with_name("killed_run.py"))]
MAX_STARTS = 200


@dataclass
class Outcome:
    code: int
    tree: str = ""
    """Of the published branch."""
    turns: dict[str, set[str]] = field(default_factory=dict)
    """`TASK: turn N` → trees of its checkpoints; several when a turn was replayed after a kill."""
    pushes: list[str] = field(default_factory=list)
    tokens: int = 0
    """As the run's own account has it."""
    stored_tokens: int = 0
    """Of all replies that were stored: what the account should say."""
    asked: set[str] = field(default_factory=set)
    """Requests that were answered, each by its key."""
    paid_again: list[str] = field(default_factory=list)
    """Requests for replies that had been stored."""
    asked_again: int = 0
    """Requests that a kill made necessary: their first answer had not been stored."""
    seen: list[str] = field(default_factory=list)
    """Boundaries, in the order in which they were first reached."""
    kills: int = 0
    seconds: float = 0
    said: str = ""
    """What the last process printed."""

    def differences(self, other: Outcome) -> list[str]:
        """How this one differs from an uninterrupted `other`, in words."""
        found: list[str] = []
        if self.code != other.code:
            found.append(f"exit code {self.code} instead of {other.code}:\n{self.said}")
        if self.tree != other.tree:
            found.append(f"published tree {self.tree} instead of {other.tree}")
        for turn in sorted(self.turns.keys() | other.turns.keys()):
            # What an integrator starts from depends on which branches were finished first; its end does not.
            if turn.startswith("integrate-"):
                continue
            if self.turns.get(turn) != other.turns.get(turn):
                found.append(f"{turn}: {self.turns.get(turn)} instead of {other.turns.get(turn)}")
        if self.pushes != other.pushes:
            found.append(f"pushed {self.pushes} instead of {other.pushes}")
        if self.tokens != self.stored_tokens:
            found.append(f"accounts for {self.tokens} tokens, its replies took {self.stored_tokens}")
        found += [f"paid again: {key}" for key in self.paid_again]
        return found

    def otherwise(self, other: Outcome) -> str:
        """What is not wrong, but was not so in `other`: which branches are finished first is a matter of timing."""
        mine, theirs = ({key.rsplit("/", 1)[0] for key in one.asked} for one in (self, other))
        return " ".join(
            [*(f"+{a}" for a in sorted(mine - theirs)), *(f"-{a}" for a in sorted(theirs - mine))]
        )


class KilledRun:
    """One run of `file`, on a repository that `Lab.repository` made, with models at `server`."""

    def __init__(self, lab: Lab, server: CassetteServer, file: str, name: str, repository: str) -> None:
        self.lab, self.server, self.file, self.name = lab, server, file, name
        self.repository = repository
        self.seen, self.due = lab.root / "seen", lab.root / "due"
        self.seen.write_text("")
        self.stored: dict[str, int] = {}
        """Replies that were stored when a kill came → answers until then."""
        self.kills = 0

    # ------------------------------------------------------------ killing

    def at(self, boundaries: list[str]) -> Outcome:
        """Killed at each of these, as far as they are reached; in any order."""
        self.due.write_text("".join(f"{boundary}\n" for boundary in boundaries))
        return self._to_the_end(lambda started: started.wait(600).code)

    def at_instants(self, chance: random.Random, kills: int, longest: float) -> Outcome:
        """Killed `kills` times, each so many random seconds (up to `longest`) after the start or the last resume."""
        left = [chance.uniform(0, longest) for _ in range(kills)]

        def wait(started: Started) -> int:
            ends = time.monotonic() + (left.pop() if left else 600)
            while time.monotonic() < ends and started.process.poll() is None:
                time.sleep(0.005)
            if started.process.poll() is None:
                started.signal(signal.SIGKILL)
            return started.process.wait()

        return self._to_the_end(wait)

    def _to_the_end(self, wait) -> Outcome:
        began = time.monotonic()
        for _ in range(MAX_STARTS):
            started = self._start()
            code = wait(started)
            if code != -signal.SIGKILL:
                outcome = self._outcome(code, started)
                outcome.seconds = time.monotonic() - began
                return outcome
            self.kills += 1
            until(lambda: not self.lab.left_behind(), "sandboxes die with the program", patience=20)
            self._note_what_is_stored()
        raise AssertionError(f"{MAX_STARTS} starts did not bring it to its end")

    def _start(self) -> Started:
        known = (self.lab.directory(self.name) / "run.json").exists()
        arguments = ["resume", self.name] if known else ["run", "-f", self.file]
        return self.lab.start(str(self.seen), str(self.due), *arguments, program=PROGRAM)

    # ------------------------------------------------------------ looking

    def _answers(self) -> dict[str, int]:
        """`role/task/attempt/turn` → answers that were given."""
        counts = self.server.requests()
        return {key.split("/", 1)[1]: count.get("answered", 0) for key, count in counts.items()}

    def _note_what_is_stored(self) -> None:
        answers = self._answers()
        for key in self._replies():
            self.stored.setdefault(key, answers.get(key, 0))

    def _replies(self) -> dict[str, Path]:
        """What was stored of models' answers: the request's key → file."""
        turns = self.lab.directory(self.name) / "artifacts" / "turns"
        found = [p for kind in ("reply", "answer", "decision") for p in turns.glob(f"*/*/*/*/{kind}.json")]
        return {f"{p.parts[-5]}/{p.parts[-4]}/{p.parts[-3]}/{int(p.parts[-2])}": p for p in found}

    def _outcome(self, code: int, started: Started) -> Outcome:
        status = self.lab.status(self.name)
        branch = (status.get("result") or {}).get("branch", "")
        bare = self.lab.root / f"{self.repository}.git"
        answers = self._answers()
        usages = [json.loads(path.read_text())["usage"] for path in self._replies().values()]
        return Outcome(
            code=code,
            tree=tree(bare, branch) if branch else "",
            turns=self._turns(),
            pushes=self.lab.pushes(self.repository),
            tokens=(status.get("usage") or {}).get("tokens", 0),
            stored_tokens=sum(usage["input"] + usage["output"] for usage in usages),
            asked={key for key, count in answers.items() if count},
            paid_again=[key for key, count in self.stored.items() if answers[key] != count],
            asked_again=sum(answers.values()) - len(answers),
            seen=list(dict.fromkeys(self.seen.read_text().splitlines())),
            kills=self.kills,
            said=f"{started.out[-3000:]}{started.err[-3000:]}",
        )

    def _turns(self) -> dict[str, set[str]]:
        artifacts = self.lab.directory(self.name) / "artifacts"
        repo = RunRepo(self.lab.root / "look.git", open_store(artifacts.as_uri()), "")
        found: dict[str, set[str]] = {}
        for bundle in artifacts.glob("bundles/*"):
            try:
                repo.ensure(bundle.name)
            except NotFound:
                continue  # built on a checkpoint whose own bundle was not stored when the kill came
            subject, _, hash_ = git(
                "-C", str(repo.path), "log", "-1", "--format=%s%x09%T", bundle.name
            ).partition("\t")
            if ": turn " in subject:
                found.setdefault(subject, set()).add(hash_)
        return found
