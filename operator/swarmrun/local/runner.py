"""One run at work on this machine: embedded engine, worker, activities and sandboxes in this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from swarmrun.activities.registry import Activity, activities
from swarmrun.activities.world import RunWorld
from swarmrun.api.run import SwarmRun
from swarmrun.api.status import SwarmRunStatus
from swarmrun.controller.observe import Seen, look
from swarmrun.controller.projection import project
from swarmrun.controller.unheard import unheard
from swarmrun.controller.wanted import Said
from swarmrun.durable.bridge import Bridge
from swarmrun.durable.engine import EmbeddedEngine
from swarmrun.errors import EngineError, NotFound
from swarmrun.local.directory import RunDirectory
from swarmrun.local.rerun import first_input
from swarmrun.local.world import Models, open_world
from swarmrun.orchestration.agent import agent
from swarmrun.orchestration.mail import EVENT
from swarmrun.orchestration.run import run as run_orchestration
from swarmrun.orchestration.successor import Successor
from swarmrun.sandbox.process import ProcessProvider
from swarmrun.settings import settings
from swarmrun.steps import RELEASE, Failed

LOOK_SECONDS = 0.1
"""How often the engine's memory is looked at for the live view; in-process, so it costs next to nothing."""


class LocalRunner:
    """Implements `local.runs.Runner`."""

    def __init__(self, directory: RunDirectory, endpoints: Mapping[str, str]) -> None:
        self._directory = directory
        self._file = directory.file()
        self._snapshot = directory.snapshot()
        self._bridge = Bridge()
        self._models = Models(self._snapshot, endpoints, self._bridge)
        self._engine = EmbeddedEngine(directory.engine_db)
        self._closed = False
        self._seen: Seen | None = None
        self._said = Said()
        self._stop_sandboxes: Callable[[], None] = lambda: None
        self._log = _log_to(directory)
        try:
            self._engine.open()
            self._world = open_world(directory, self._bridge, self._models)
            if isinstance(self._world.provider, ProcessProvider):
                self._stop_sandboxes = self._world.provider.stop
            self._client = self._engine.client()
            self._start()
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------ what commands do

    def send(self, mail: dict[str, Any]) -> None:
        self._client.raise_orchestration_event(self._file.instance, EVENT, data=mail)

    def wait(self, on_status: Callable[[SwarmRun], None]) -> SwarmRunStatus:
        return self._work(activities(self._worlds), on_status)

    def end(self) -> SwarmRunStatus:
        self.send({"kind": "cancel"})
        steps = activities(self._worlds)
        idle = dict.fromkeys(steps, _not_begun) | {RELEASE.name: steps[RELEASE.name]}
        return self._work(idle, lambda _: None)

    def _work(self, steps: Mapping[str, Activity], on_status: Callable[[SwarmRun], None]) -> SwarmRunStatus:
        self._engine.start_worker([run_orchestration, agent], steps, successor=Successor())
        self._engine.serve()
        resource = self._directory.resource()
        status = self._directory.status()
        while True:
            now, ended = self._look(status)
            if now != status:
                status = now
                on_status(resource.model_copy(update={"status": status}))
            if ended:
                return status
            time.sleep(LOOK_SECONDS)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        # No result is taken any more when this is called: what a closed client breaks is not recorded.
        self._engine.close(cancel=self._end)
        self._end()
        self._stop_sandboxes()
        logging.getLogger("swarmrun").removeHandler(self._log)
        self._log.close()

    def _end(self) -> None:
        self._models.close()
        self._bridge.close()

    # ------------------------------------------------------------ looking

    def _look(self, previous: SwarmRunStatus) -> tuple[SwarmRunStatus, bool]:
        try:
            seen = look(self._client, self._file.instance, self._snapshot.name, self._seen)
        except NotFound as exc:
            mend = f"swarmrun delete {self._directory.name}"
            raise EngineError(f"the engine has lost run {self._file.instance}", mend=mend) from exc
        for mail in unheard(seen, self._said):
            self.send(mail)
        if seen.ended:
            # Before the status that says so: whoever reads that finds this.
            self._directory.save_report(seen.report)
        self._seen = seen
        return project(seen.report, seen.progress, previous=previous, now=datetime.now(UTC)), seen.ended

    # ------------------------------------------------------------ wiring

    def _start(self) -> None:
        """Starts the orchestration unless it has been: the engine's file knows."""
        if self._client.get_orchestration_state(self._file.instance) is None:
            self._client.schedule_new_orchestration(
                "run",
                input=first_input(self._directory, self._file, self._snapshot).model_dump(mode="json"),
                instance_id=self._file.instance,
            )

    @contextmanager
    def _worlds(self, run: str) -> Iterator[RunWorld]:
        if run != self._snapshot.run:
            raise NotFound(f"run {run} is not this process's, which works on {self._snapshot.run}")
        yield self._world


def _not_begun(_context: Any, _given: Any) -> dict[str, Any]:
    failed = Failed(reason="Cancelled", message="not begun: the run was cancelled while nobody worked on it")
    return {"failed": failed.model_dump(mode="json")}


def _log_to(directory: RunDirectory) -> logging.Handler:
    """`swarmrun.log` of the run's directory: a terminal shows the run, not its log."""
    handler = logging.FileHandler(directory.path / "swarmrun.log", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("swarmrun")
    logger.setLevel(settings().log_level)
    logger.addHandler(handler)
    logger.propagate = False
    return handler
