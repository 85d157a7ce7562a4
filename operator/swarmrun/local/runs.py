"""Runs on this machine: start, attach, resume, tell, read, delete. Every command goes through here.

One process works on a run (it holds the engine); others follow the status it writes and talk to its engine
over a socket. What does the work is a `Runner`: engine, worker and activities wired together.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

from swarmrun.api.resolve import resolve, spec_hash
from swarmrun.api.run import SwarmRun
from swarmrun.api.status import SwarmRunStatus
from swarmrun.api.swarmclass import SwarmClass
from swarmrun.errors import Conflict, InvalidResource, NotFound
from swarmrun.local.directory import RunDirectory, RunFile
from swarmrun.local.lock import Lock, holder
from swarmrun.local.paths import absolute_class, absolute_run, cassettes, check_repository

FOLLOW_SECONDS = 0.2
"""How often a follower looks at the status file; a choice: seen as live, costs nothing."""
CHANGE_SECONDS = 30.0
"""How long a word to a run waits for the process that works on it to be up, or gone. A choice."""
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

OnStatus = Callable[[SwarmRun], None]
"""Told the resource with its status at every change. What it raises ends the wait; the run stays resumable."""


class Runner(Protocol):
    """One run's engine and worker in this process, or a connection to the process that has them."""

    def wait(self, on_status: OnStatus) -> SwarmRunStatus:
        """Works until the run has ended. Returns its last status."""
        ...

    def end(self) -> SwarmRunStatus:
        """Cancels a run that nobody works on, until it has ended. Nothing is begun on the way: no model is paid
        for what is not wanted any more."""
        ...

    def send(self, mail: dict[str, Any]) -> None:
        """Into the run's mailbox; stored durably when this returns. Shapes: `orchestration/mail.py`."""
        ...

    def close(self) -> None:
        """Stops working; everything that was done is kept. Idempotent."""
        ...


class Runners(Protocol):
    def open(self, directory: RunDirectory, *, endpoints: Mapping[str, str]) -> Runner:
        """The run's engine, with what there is of it; work begins with `wait`. The caller holds the directory's
        lock.

        `endpoints` says which URL stands for each `cassette:` endpoint of the snapshot."""
        ...

    def connect(self, directory: RunDirectory) -> Runner:
        """To the process that works on it. Only `send` and `close` are used."""
        ...


@dataclass(frozen=True)
class Listed:
    """One row of `swarmrun list`. `state`: working, stopped (resumable) or ended."""

    directory: RunDirectory
    run: SwarmRun
    state: str


class Runs:
    """The runs below one home directory."""

    def __init__(self, home: Path, runners: Runners | None = None) -> None:
        self.home = home
        self._runners = runners

    # ------------------------------------------------------------ finding

    def list(self, namespace: str = "") -> list[RunDirectory]:
        """All runs (of a namespace), oldest first. Directories without `run.json` are none."""
        found = [RunDirectory(p.parent) for p in self.home.glob(f"runs/{namespace or '*'}/*/run.json")]
        return sorted(found, key=lambda d: (d.path.joinpath("run.json").stat().st_mtime, d.name))

    def get(self, name: str, namespace: str = "default") -> RunDirectory:
        """Raises NotFound, naming the nearest."""
        directory = self.directory(name, namespace)
        if not (directory.path / "run.json").exists():
            names = [d.name for d in self.list(namespace)]
            near = get_close_matches(name, names, 1)
            mend = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}" if names else ""
            raise NotFound(
                f"no run {name!r} in namespace {namespace}",
                mend=mend or "start one with `swarmrun run -f FILE`; `swarmrun list` shows those there are",
            )
        directory.file()
        return directory

    def directory(self, name: str, namespace: str) -> RunDirectory:
        """Where a run of this name is or would be. Names come from the command line: no path may hide in one."""
        for what, text in (("name", name), ("namespace", namespace)):
            if not NAME.fullmatch(text):
                raise InvalidResource(
                    f"{what} {text!r} is no DNS label",
                    mend="lower-case letters, digits and dashes, at most 63",
                )
        return RunDirectory(self.home / "runs" / namespace / name)

    def describe(self, directory: RunDirectory) -> Listed:
        run = directory.resource()
        ended = run.status is not None and run.status.phase.terminal
        return Listed(directory, run, "ended" if ended else "working" if directory.busy() else "stopped")

    # ------------------------------------------------------------ starting

    def start(
        self,
        run: SwarmRun,
        cls: SwarmClass,
        *,
        source_dir: Path,
        guards: bool = True,
        unsafe_no_sandbox: bool = False,
    ) -> RunDirectory:
        """Writes the run down; `work` then does it. The same run a second time gives the one there is.

        Raises InvalidResource where the run leaves what its class allows, Conflict where another run of that
        name has another goal, repository or plan.
        """
        directory = self.directory(run.metadata.name, run.metadata.namespace)
        if run.spec.cancel:
            raise InvalidResource("spec.cancel is true: there is nothing to start", field="spec.cancel")
        run, cls = absolute_run(run, source_dir), absolute_class(cls, source_dir)
        with Lock(directory.path.parent / f".{directory.name}.start", wait=True):
            if (directory.path / "run.json").exists():
                return self._same(directory, run)
            instance = f"{run.metadata.name[:40].rstrip('-')}-{secrets.token_hex(3)}"
            snapshot = resolve(run, cls, instance=instance, guards=guards, own_machine=True)
            check_repository(run.spec.repository.url)
            file = RunFile(
                instance=instance,
                created_at=datetime.now(UTC),
                source_dir=str(source_dir),
                unsafe_no_sandbox=unsafe_no_sandbox,
                endpoints=cassettes(snapshot),
            )
            directory.create(file, run, cls, snapshot)
        return directory

    def _same(self, directory: RunDirectory, run: SwarmRun) -> RunDirectory:
        directory.file()
        if spec_hash(directory.resource()) != spec_hash(run):
            raise Conflict(
                f"run {directory.name} exists with another goal, repository or plan",
                mend=f"--name OTHER, or first `swarmrun delete {directory.name}`",
            )
        return directory

    # ------------------------------------------------------------ working

    def work(self, directory: RunDirectory, on_status: OnStatus) -> SwarmRun:
        """Drives the run to its end, or follows whoever drives it and takes over when they are gone."""
        while True:
            run = directory.resource()
            if run.status and run.status.phase.terminal:
                on_status(run)
                return run
            try:
                lock = Lock(directory.lock)
            except Conflict:
                self._follow(directory, on_status)
                continue
            with lock:
                return self._drive(directory, on_status)

    def _drive(self, directory: RunDirectory, on_status: OnStatus) -> SwarmRun:
        from swarmrun.local.cassettes import served

        def store(run: SwarmRun) -> None:
            if run.status is not None:
                directory.save_status(run.status)
            on_status(run)

        run = directory.resource()
        with served(directory.file().endpoints, directory.cassette_log) as endpoints:
            runner = self.runners().open(directory, endpoints=endpoints)
            try:
                if run.spec.suspend:
                    runner.send({"kind": "suspend"})
                status = runner.wait(store)
            finally:
                runner.close()
        directory.save_status(status)
        return run.model_copy(update={"status": status})

    def follow(self, directory: RunDirectory, on_status: OnStatus) -> SwarmRun:
        """Watches until the run has ended or nobody works on it any more; never takes over."""
        self._follow(directory, on_status)
        return directory.resource()

    def _follow(self, directory: RunDirectory, on_status: OnStatus) -> None:
        last: SwarmRunStatus | None = None
        while True:
            busy = directory.busy()
            run = directory.resource()
            if run.status != last:
                last = run.status
                on_status(run)
            if not busy or (last and last.phase.terminal):
                return
            time.sleep(FOLLOW_SECONDS)

    # ------------------------------------------------------------ telling

    def send(self, directory: RunDirectory, kind: str, **data: str) -> None:
        """Mail to a run that has not ended: `cancel`, `suspend`, `resume`, `approve` and `reject` (`what`).

        Where nobody works on it, the engine is opened for as long as it takes: to store the word, and for
        `cancel` until the run has ended. Raises Conflict when it has ended before.
        """
        mail = {"kind": kind, **data}
        patience = time.monotonic() + CHANGE_SECONDS
        while True:
            try:
                lock = Lock(directory.lock)
            except Conflict:
                self._remember(directory, kind)
                try:
                    return self._send_working(directory, mail)
                except NotFound:
                    # Whoever holds it is just beginning or just ending.
                    if time.monotonic() > patience:
                        raise
                time.sleep(FOLLOW_SECONDS)
                continue
            with lock:
                self._remember(directory, kind)
                return self._send_stopped(directory, mail)

    def _send_working(self, directory: RunDirectory, mail: dict[str, Any]) -> None:
        runner = self.runners().connect(directory)
        try:
            runner.send(mail)
        finally:
            runner.close()

    def _send_stopped(self, directory: RunDirectory, mail: dict[str, Any]) -> None:
        """Stored, and not worked on."""
        runner = self.runners().open(directory, endpoints={})
        try:
            if mail["kind"] == "cancel":
                directory.save_status(runner.end())
            else:
                runner.send(mail)
        finally:
            runner.close()

    @staticmethod
    def _remember(directory: RunDirectory, kind: str) -> None:
        """The resource says what is wanted of it, as it would in a cluster. Raises Conflict when it has ended."""
        run = directory.resource()
        if run.status and run.status.phase.terminal:
            raise Conflict(f"run {directory.name} has ended: {run.status.phase}")
        update = {"cancel": {"cancel": True}, "suspend": {"suspend": True}, "resume": {"suspend": False}}.get(
            kind
        )
        if update:
            directory.save_resource(run.model_copy(update={"spec": run.spec.model_copy(update=update)}))

    # ------------------------------------------------------------ deleting

    def delete(self, name: str, namespace: str = "default", *, force: bool = False) -> RunDirectory:
        """Removes everything of a run that nobody works on. `force`: also one whose state cannot be read.

        Branches that were published stay where they are."""
        directory = self.directory(name, namespace) if force else self.get(name, namespace)
        if not directory.path.exists():
            raise NotFound(f"no run {name!r} in namespace {namespace}")
        try:
            with Lock(directory.lock):
                if directory.sandboxes.exists():
                    from swarmrun.sandbox.process import sweep

                    sweep(directory.sandboxes)
                shutil.rmtree(directory.path, onerror=_writable)
        except Conflict as exc:
            raise Conflict(
                f"process {holder(directory.lock)} works on run {name}",
                mend=f"first `swarmrun cancel {name}`",
            ) from exc
        (directory.path.parent / f".{name}.start").unlink(missing_ok=True)
        return directory

    def runners(self) -> Runners:
        if self._runners is None:
            from swarmrun.local.runners import LocalRunners

            self._runners = LocalRunners()
        return self._runners


def _writable(function: Callable[[str], object], path: str, _: object) -> None:
    """git makes objects read-only, agents whole directories."""
    Path(path).parent.chmod(0o700)
    Path(path).chmod(0o700)
    function(path)
