"""The state directory of one run.

```
<home>/runs/<namespace>/<name>/
    run.json          this format's version, the instance, how it was started
    resource.yaml     the SwarmRun as it was given
    class.yaml        its SwarmClass
    snapshot.json     both merged: what the run works from
    status.json       the last status, as a custom resource would show it
    report.json       once it has ended: the run's report, which the status is projected from
    events.log        one line per event
    cassette.log      requests that a cassette answered
    lock              held by the process that works on it
    engine.db  artifacts/  repo.git/  sandboxes/  master.key     made by the engine's rooms
```
A later attempt has a snapshot, a report and artifacts of its own: `snapshot-2.json`, `report-2.json`,
`artifacts-2/`. `run.json` names the one that counts.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from pydantic.alias_generators import to_camel

from swarmrun.api.load import dump, load
from swarmrun.api.resolve import Snapshot
from swarmrun.api.run import SwarmRun
from swarmrun.api.served import first_problem, served
from swarmrun.api.status import SwarmRunStatus
from swarmrun.api.swarmclass import SwarmClass
from swarmrun.errors import EngineError, NotFound
from swarmrun.local.files import write_atomic
from swarmrun.local.lock import held
from swarmrun.report import RunReport

FORMAT = 1
"""Of everything in a run's directory. Raised when an older program could not read it any more."""


class RunFile(BaseModel):
    """`run.json`."""

    model_config = {"alias_generator": to_camel, "populate_by_name": True, "extra": "ignore"}

    format: int = FORMAT
    instance: str
    """Id of the orchestration."""
    attempt: int = 1
    rerun_from: str = ""
    """Where this attempt began, with the work of the one before it; empty: at the beginning."""
    created_at: datetime
    source_dir: str = ""
    """Directory of the resource's file: relative paths in it mean this."""
    unsafe_no_sandbox: bool = False
    """Granted for this run by who started it; holds for every resume."""
    endpoints: list[str] = Field(default_factory=list)
    """`cassette:` endpoints to be served while it works."""


def _numbered(name: str, attempt: int) -> str:
    stem, dot, ending = name.partition(".")
    return name if attempt == 1 else f"{stem}-{attempt}{dot}{ending}"


@dataclass(frozen=True)
class RunDirectory:
    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def namespace(self) -> str:
        return self.path.parent.name

    @property
    def engine_db(self) -> Path:
        return self.path / "engine.db"

    @property
    def artifacts(self) -> Path:
        return self.artifacts_of(self.attempt())

    def artifacts_of(self, attempt: int) -> Path:
        return self.path / _numbered("artifacts", attempt)

    @property
    def repo(self) -> Path:
        return self.path / "repo.git"

    @property
    def sandboxes(self) -> Path:
        return self.path / "sandboxes"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def events(self) -> Path:
        return self.path / "events.log"

    @property
    def cassette_log(self) -> Path:
        return self.path / "cassette.log"

    def busy(self) -> bool:
        """Whether a process works on it now."""
        return held(self.lock)

    # ------------------------------------------------------------ reading

    def file(self) -> RunFile:
        """Raises EngineError `StateFromNewerVersion` before anything else of the directory is believed."""
        raw = self._read("run.json")
        try:
            data: Any = json.loads(raw)
            version = int(data["format"])
        except (ValueError, KeyError, TypeError) as exc:
            raise self._broken("run.json", exc) from exc
        if version > FORMAT:
            raise EngineError(
                f"run {self.name} was written by a newer swarmrun (state format {version}, this one reads {FORMAT})",
                mend="use that version, or start the run under another --name or --home",
                reason="StateFromNewerVersion",
            )
        try:
            return RunFile.model_validate(data)
        except ValidationError as exc:
            raise self._broken("run.json", exc) from exc

    def resource(self) -> SwarmRun:
        """As it was given, with the last status."""
        found = load(self._read("resource.yaml"), str(self.path / "resource.yaml"))
        run = next((r for r in found if isinstance(r, SwarmRun)), None)
        if run is None:
            raise self._broken("resource.yaml", "holds no SwarmRun")
        return run.model_copy(update={"status": self.status()})

    def swarm_class(self) -> SwarmClass:
        found = load(self._read("class.yaml"), str(self.path / "class.yaml"))
        cls = next((c for c in found if isinstance(c, SwarmClass)), None)
        if cls is None:
            raise self._broken("class.yaml", "holds no SwarmClass")
        return cls

    def snapshot(self) -> Snapshot:
        name = _numbered("snapshot.json", self.attempt())
        try:
            return served(Snapshot, json.loads(self._read(name)))
        except json.JSONDecodeError as exc:
            raise self._broken(name, f"Invalid JSON: {exc}") from exc
        except (ValueError, TypeError) as exc:
            raise self._broken(name, exc) from exc

    def status(self) -> SwarmRunStatus:
        """The last one written of this attempt; a fresh one before the first."""
        try:
            status = SwarmRunStatus.model_validate_json((self.path / "status.json").read_text())
        except FileNotFoundError:
            return SwarmRunStatus()
        except (OSError, ValueError) as exc:
            raise self._broken("status.json", exc) from exc
        earlier = self.attempt() > 1 and status.run != self.file().instance
        return SwarmRunStatus() if earlier else status

    def report(self, attempt: int = 0) -> RunReport:
        """How the attempt (0: the last one) ended, as its orchestration, or a merge by hand since then, left it."""
        name = _numbered("report.json", attempt or self.attempt())
        try:
            return RunReport.model_validate_json(self._read(name))
        except ValidationError as exc:
            raise self._broken(name, exc) from exc

    def attempt(self) -> int:
        """The one that counts; 1 before there is a run."""
        try:
            return self.file().attempt
        except NotFound:
            return 1

    # ------------------------------------------------------------ writing

    def create(self, file: RunFile, run: SwarmRun, cls: SwarmClass, snapshot: Snapshot) -> None:
        """`run.json` comes last: without it the directory is none of a run's."""
        write_atomic(self.path / "resource.yaml", dump(run.model_copy(update={"status": None})))
        write_atomic(self.path / "class.yaml", dump(cls))
        write_atomic(self.path / "snapshot.json", snapshot.model_dump_json(by_alias=True))
        write_atomic(self.path / "run.json", file.model_dump_json(by_alias=True, indent=1))

    def begin_attempt(self, file: RunFile, snapshot: Snapshot) -> None:
        """`run.json` comes last: until then the attempt before it is the one that counts."""
        name = _numbered("snapshot.json", file.attempt)
        write_atomic(self.path / name, snapshot.model_dump_json(by_alias=True))
        write_atomic(self.path / "run.json", file.model_dump_json(by_alias=True, indent=1))

    def save_resource(self, run: SwarmRun) -> None:
        write_atomic(self.path / "resource.yaml", dump(run.model_copy(update={"status": None})))

    def save_status(self, status: SwarmRunStatus) -> None:
        """Written at every change: only the last one is waited for."""
        text = status.model_dump_json(by_alias=True, exclude_none=True)
        write_atomic(self.path / "status.json", text, durable=status.phase.terminal)

    def save_report(self, report: RunReport) -> None:
        name = _numbered("report.json", self.attempt())
        write_atomic(self.path / name, report.model_dump_json(by_alias=True))

    def master_key(self) -> bytes:
        """What the sandboxes' tokens are derived from (HMAC); made on first use, readable by its owner only."""
        path = self.path / "master.key"
        if not path.exists():
            write_atomic(path, secrets.token_bytes(32))
        return path.read_bytes()

    # ------------------------------------------------------------ errors

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text()
        except FileNotFoundError as exc:
            raise NotFound(f"run {self.name} has no {name} ({self.path})") from exc
        except (OSError, UnicodeDecodeError) as exc:
            raise self._broken(name, exc) from exc

    def _broken(self, name: str, why: object) -> EngineError:
        if isinstance(why, ValidationError):
            why = first_problem(why)
        return EngineError(
            f"{self.path / name} cannot be read: {why}",
            mend=f"swarmrun delete {self.name} --force",
            reason="StateUnreadable",
        )
