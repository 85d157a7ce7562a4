"""`swarmrun` with a scripted runner in place of the engine; a module for tests, and a program for theirs.

The script is a list of statuses as JSON in `$SWARMRUN_TEST_SCRIPT`. Between two of them it waits for mail when
the first awaits an approval, and for `$SWARMRUN_TEST_PACE` seconds. Mail from other processes arrives in a file.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from swarmrun.api.run import SwarmRun
from swarmrun.api.status import Condition, Phase, SwarmRunStatus
from swarmrun.local.directory import RunDirectory
from swarmrun.local.runs import Runs

DEADLINE = 30.0


class ScriptedRunner:
    """Plays statuses from where the directory's last one stands in the script."""

    def __init__(self, owner: ScriptedRunners, directory: RunDirectory) -> None:
        self.owner, self.directory = owner, directory
        self.closed = False

    @property
    def mailbox(self) -> Path:
        return self.directory.path / "mail.jsonl"

    def mails(self) -> list[dict[str, Any]]:
        return (
            [json.loads(line) for line in self.mailbox.read_text().splitlines()]
            if self.mailbox.exists()
            else []
        )

    def send(self, mail: dict[str, Any]) -> None:
        with self.mailbox.open("a") as file:
            file.write(json.dumps(mail) + "\n")

    def wait(self, on_status: Callable[[SwarmRun], None]) -> SwarmRunStatus:
        run = self.directory.resource()
        last = self.directory.status()
        script = self.owner.script
        start = script.index(last) + 1 if last in script else 0
        for status in script[start:]:
            if self.cancelled():
                status = SwarmRunStatus(phase=Phase.CANCELLED, conditions=[finished("Cancelled", "False")])
            on_status(run.model_copy(update={"status": status}))
            if status.phase.terminal:
                return status
            self.pause(status)
        raise AssertionError("the script does not end")

    def end(self) -> SwarmRunStatus:
        self.send({"kind": "cancel"})
        return self.wait(lambda _: None)

    def cancelled(self) -> bool:
        return any(m["kind"] == "cancel" for m in self.mails())

    def pause(self, status: SwarmRunStatus) -> None:
        end = time.monotonic() + DEADLINE
        while status.phase is Phase.AWAITING_APPROVAL and not any(
            m["kind"] == "approve" for m in self.mails()
        ):
            if self.cancelled():
                return
            assert time.monotonic() < end, "no approval came"
            time.sleep(0.02)
        time.sleep(self.owner.pace)

    def close(self) -> None:
        self.closed = True


class ScriptedRunners:
    """Stands for `LocalRunner`; keeps what was asked of it."""

    def __init__(self, script: list[SwarmRunStatus], pace: float = 0.0) -> None:
        self.script, self.pace = script, pace
        self.opened: list[ScriptedRunner] = []
        self.endpoints: list[dict[str, str]] = []

    def open(self, directory: RunDirectory, *, endpoints: Mapping[str, str]) -> ScriptedRunner:
        self.endpoints.append(dict(endpoints))
        self.opened.append(ScriptedRunner(self, directory))
        with (directory.path / "opened").open("a") as file:
            file.write(f"{os.getpid()}\n")
        return self.opened[-1]

    def connect(self, directory: RunDirectory) -> ScriptedRunner:
        return ScriptedRunner(self, directory)


def finished(reason: str, succeeded: str, message: str = "") -> Condition:
    return Condition(type="Succeeded", status=succeeded, reason=reason, message=message)  # type: ignore[arg-type]


def main() -> None:
    from swarmrun.cli.main import run

    raw = json.loads(os.environ["SWARMRUN_TEST_SCRIPT"])
    runners = ScriptedRunners(
        [SwarmRunStatus.model_validate(s) for s in raw], float(os.environ.get("SWARMRUN_TEST_PACE", "0"))
    )
    Runs.runners = lambda self: runners  # type: ignore[method-assign]
    run()


if __name__ == "__main__":
    main()
