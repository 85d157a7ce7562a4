"""Who works on a run: this process, or another one that is told by a socket. Light, since most commands only tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from swarmrun.api.run import SwarmRun
from swarmrun.api.status import SwarmRunStatus
from swarmrun.errors import EngineError
from swarmrun.local.directory import RunDirectory

if TYPE_CHECKING:
    from swarmrun.local.runner import LocalRunner


class LocalRunners:
    """Implements `local.runs.Runners`."""

    def open(self, directory: RunDirectory, *, endpoints: Mapping[str, str]) -> LocalRunner:
        from swarmrun.local.runner import LocalRunner

        return LocalRunner(directory, endpoints)

    def connect(self, directory: RunDirectory) -> Mailbox:
        return Mailbox(directory)


class Mailbox:
    """Of a run that another process works on. Raises NotFound when none serves it."""

    def __init__(self, directory: RunDirectory) -> None:
        from swarmrun.durable.engine import connect

        self._instance = directory.file().instance
        self._client = connect(directory.engine_db.with_name(directory.engine_db.name + ".sock"))

    def send(self, mail: dict[str, Any]) -> None:
        from swarmrun.orchestration.mail import EVENT

        self._client.raise_orchestration_event(self._instance, EVENT, data=mail)

    def wait(self, on_status: Callable[[SwarmRun], None]) -> SwarmRunStatus:
        raise EngineError("another process works on this run; its status is followed by file")

    def end(self) -> SwarmRunStatus:
        raise EngineError("another process works on this run: it ends it when it is told")

    def close(self) -> None:
        self._client.close()
