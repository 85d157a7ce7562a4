"""The embedded engine's file: SQLite, written through, one process at a time.

| table | row |
| --- | --- |
| `instance` | one instance: its state, and the events it has not digested yet (`inbox`) |
| `history` | one event, appended; rows go only when a life ends (continue-as-new, rewind) or with the instance |
| `entity`, `signal`, `misc` | entities, their delayed signals, requests for locks |

`PRAGMA synchronous`: a killed process loses nothing with any value, since what SQLite has written is the
system's to keep. `FULL` (the default here) also survives a power cut, for 0.3 ms a commit on an SSD; `NORMAL`
may then lose the last commits but never the file.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import durabletask.internal.orchestrator_service_pb2 as pb
from durabletask.testing.in_memory_backend import EntityState, OrchestrationInstance

from swarmrun.durable.backend_events import execution_started
from swarmrun.errors import Conflict, EngineError, StorageUnavailable

SCHEMA = 1
"""`PRAGMA user_version`. Raise it with every change of the tables; an older one is migrated on opening."""

_APPLICATION = 0x53774172
"""`PRAGMA application_id`: says that a SQLite file is ours."""

_FREE_PAGES = 256
"""Vacuum from so many free pages (1 MiB) on: less is soon used again."""

_TABLES = """
CREATE TABLE instance(
    id TEXT PRIMARY KEY, life TEXT NOT NULL, state TEXT NOT NULL, custom_status TEXT, output TEXT,
    failure BLOB, inbox BLOB NOT NULL);
CREATE TABLE history(instance TEXT NOT NULL, n INTEGER NOT NULL, event BLOB NOT NULL, PRIMARY KEY(instance, n));
CREATE TABLE entity(id TEXT PRIMARY KEY, state TEXT, locked_by TEXT, modified TEXT NOT NULL, inbox BLOB NOT NULL);
CREATE TABLE signal(id TEXT PRIMARY KEY, entity TEXT NOT NULL, due TEXT NOT NULL, event BLOB NOT NULL);
CREATE TABLE misc(name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

Synchronous = Literal["FULL", "NORMAL"]


class Store:
    """Reads and writes rows. Not thread-safe: the backend calls it under its lock.

    Raises Conflict when another process has the file open, EngineError when it cannot be used (reason
    `StateFromNewerVersion` or `StateUnreadable`), StorageUnavailable when it cannot be made.
    """

    def __init__(self, path: Path, *, synchronous: Synchronous = "FULL") -> None:
        self.path = path
        self._lock_file = _lock(path)
        self._rows: dict[str, tuple[str, int]] = {}
        """Instance → the life its history rows belong to, and how many there are."""
        try:
            self._db = _connect(path, synchronous)
        except BaseException:
            os.close(self._lock_file)
            raise

    # ------------------------------------------------------------ writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; sqlite3.Error when it could not be written."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def save_instance(
        self, instance: OrchestrationInstance, life: str, history: Sequence[pb.HistoryEvent] | None
    ) -> None:
        """Appends what is new of the history; None: the rows are complete and stay."""
        if history is not None:
            self._append(instance.instance_id, life, history)
        state = {
            "name": instance.name,
            "status": instance.status,
            "version": instance.version,
            "tags": instance.tags,
            "created": instance.created_at.isoformat(),
            "updated": instance.last_updated_at.isoformat(),
            "completed": instance.completed_at.isoformat() if instance.completed_at else None,
        }
        failure = instance.failure_details
        self._db.execute(
            "REPLACE INTO instance VALUES(?,?,?,?,?,?,?)",
            (
                instance.instance_id,
                life,
                json.dumps(state),
                instance.custom_status,
                instance.output,
                failure.SerializeToString() if failure is not None else None,
                _pack([*instance.dispatched_events, *instance.pending_events]),
            ),
        )

    def _append(self, instance_id: str, life: str, history: Sequence[pb.HistoryEvent]) -> None:
        known_life, count = self._rows.get(instance_id, ("", 0))
        if known_life != life or count > len(history):
            self._db.execute("DELETE FROM history WHERE instance=?", (instance_id,))
            count = 0
        self._db.executemany(
            "INSERT INTO history VALUES(?,?,?)",
            ((instance_id, n, history[n].SerializeToString()) for n in range(count, len(history))),
        )
        self._rows[instance_id] = (life, len(history))

    def delete_instance(self, instance_id: str) -> None:
        self._db.execute("DELETE FROM instance WHERE id=?", (instance_id,))
        self._db.execute("DELETE FROM history WHERE instance=?", (instance_id,))
        self._rows.pop(instance_id, None)

    def save_entity(self, entity: EntityState) -> None:
        self._db.execute(
            "REPLACE INTO entity VALUES(?,?,?,?,?)",
            (
                entity.instance_id,
                entity.serialized_state,
                entity.locked_by,
                entity.last_modified_at.isoformat(),
                _pack([*entity.dispatched_operations, *entity.pending_operations]),
            ),
        )

    def delete_entity(self, entity_id: str) -> None:
        self._db.execute("DELETE FROM entity WHERE id=?", (entity_id,))

    def save_signal(self, signal_id: str, entity_id: str, due: datetime, event: pb.HistoryEvent) -> None:
        row = (signal_id, entity_id, due.isoformat(), event.SerializeToString())
        self._db.execute("REPLACE INTO signal VALUES(?,?,?,?)", row)

    def delete_signal(self, signal_id: str) -> None:
        self._db.execute("DELETE FROM signal WHERE id=?", (signal_id,))

    def save_misc(self, name: str, value: Any) -> None:
        self._db.execute("REPLACE INTO misc VALUES(?,?)", (name, json.dumps(value)))

    def vacuum(self) -> None:
        """Gives freed pages back to the file system when there are many."""
        if self._db.execute("PRAGMA freelist_count").fetchone()[0] >= _FREE_PAGES:
            # Not execute(): that makes one step, and each step frees one page.
            self._db.executescript("PRAGMA incremental_vacuum")

    # ------------------------------------------------------------ reading

    def instances(self) -> Iterator[tuple[OrchestrationInstance, str]]:
        """Every instance with its life; histories are read apart."""
        for instance_id, life, state, custom_status, output, failure, inbox in self._db.execute(
            "SELECT id, life, state, custom_status, output, failure, inbox FROM instance ORDER BY rowid"
        ).fetchall():
            known = json.loads(state)
            pending = _unpack(inbox)
            completed = known["completed"]
            instance = OrchestrationInstance(
                instance_id=instance_id,
                name=known["name"],
                status=known["status"],
                version=known["version"],
                output=output,
                custom_status=custom_status,
                created_at=datetime.fromisoformat(known["created"]),
                last_updated_at=datetime.fromisoformat(known["updated"]),
                completed_at=datetime.fromisoformat(completed) if completed else None,
                failure_details=pb.TaskFailureDetails.FromString(failure) if failure is not None else None,
                pending_events=pending,
                tags=known["tags"],
            )
            started = execution_started(pending) or self._started(instance_id)
            if started is not None and started.HasField("input"):
                instance.input = started.input.value
            yield instance, life

    def _started(self, instance_id: str) -> pb.ExecutionStartedEvent | None:
        rows = self._db.execute(
            "SELECT event FROM history WHERE instance=? ORDER BY n LIMIT 8", (instance_id,)
        )
        return execution_started(pb.HistoryEvent.FromString(row[0]) for row in rows.fetchall())

    def history(self, instance_id: str, life: str) -> list[pb.HistoryEvent]:
        rows = self._db.execute("SELECT event FROM history WHERE instance=? ORDER BY n", (instance_id,))
        found = [pb.HistoryEvent.FromString(row[0]) for row in rows.fetchall()]
        self._rows[instance_id] = (life, len(found))
        return found

    def note_rows(self, instance_id: str, life: str) -> None:
        """Learns how many history rows there are without reading them."""
        count = self._db.execute("SELECT count(*) FROM history WHERE instance=?", (instance_id,)).fetchone()[
            0
        ]
        self._rows[instance_id] = (life, count)

    def entities(self) -> Iterator[EntityState]:
        for entity_id, state, locked_by, modified, inbox in self._db.execute(
            "SELECT * FROM entity"
        ).fetchall():
            yield EntityState(
                instance_id=entity_id,
                serialized_state=state,
                last_modified_at=datetime.fromisoformat(modified),
                locked_by=locked_by,
                pending_operations=_unpack(inbox),
            )

    def signals(self) -> Iterator[tuple[str, str, datetime, pb.HistoryEvent]]:
        for signal_id, entity_id, due, event in self._db.execute(
            "SELECT * FROM signal ORDER BY due"
        ).fetchall():
            yield signal_id, entity_id, datetime.fromisoformat(due), pb.HistoryEvent.FromString(event)

    def misc(self, name: str, default: Any) -> Any:
        row = self._db.execute("SELECT value FROM misc WHERE name=?", (name,)).fetchone()
        return json.loads(row[0]) if row else default

    def close(self) -> None:
        """Folds the log into the file and lets go of it."""
        try:
            self.vacuum()
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error:
            pass  # everything is in the log, which the next opening reads
        finally:
            self._db.close()
            os.close(self._lock_file)


def _pack(events: Sequence[pb.HistoryEvent]) -> bytes:
    return pb.HistoryChunk(events=events).SerializeToString()


def _unpack(data: bytes) -> list[pb.HistoryEvent]:
    return list(pb.HistoryChunk.FromString(data).events)


def _lock(path: Path) -> int:
    """Takes the file for this process; the system gives it back when the process ends, however it ends."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StorageUnavailable(
            f"cannot create {lock_path}: {exc.strerror}", mend="check the directory's owner and free space"
        ) from exc
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise Conflict(
            f"engine state {path} is in use by process {holder}",
            mend="attach to that run, or wait until it has ended",
            reason="EngineInUse",
        ) from exc
    except OSError as exc:
        os.close(handle)
        raise EngineError(
            f"{lock_path} cannot be locked: {exc.strerror}", mend="use a directory on a local file system"
        ) from exc
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    except OSError:
        pass  # only tells others who we are; a full disk is found when state is written
    return handle


def _connect(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    try:
        os.close(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        )  # SQLite's own files follow its mode
        os.chmod(path, 0o600)
        db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    except (OSError, sqlite3.OperationalError) as exc:
        raise StorageUnavailable(
            f"cannot open engine state {path}: {exc}", mend="check the directory's owner and free space"
        ) from exc
    try:
        _prepare(db, path, synchronous)
    except sqlite3.OperationalError as exc:
        db.close()
        raise StorageUnavailable(
            f"cannot prepare engine state {path}: {exc}", mend="free some space on that file system"
        ) from exc
    except sqlite3.DatabaseError as exc:
        db.close()
        raise EngineError(
            f"{path} is not an engine's state or is damaged: {exc}",
            mend="move the file away and start the run again",
            reason="StateUnreadable",
        ) from exc
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path, synchronous: Synchronous) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    application = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != _APPLICATION:
        raise EngineError(
            f"{path} is another program's SQLite file", mend="name another file", reason="StateUnreadable"
        )
    if version > SCHEMA:
        raise EngineError(
            f"engine state {path} was written by a newer version of swarmrun (schema {version}, known: {SCHEMA})",
            mend="use that version to go on with it, or start a new run",
            reason="StateFromNewerVersion",
        )
    if not tables:
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")  # only works before the first table
    db.execute("PRAGMA journal_mode=WAL").fetchall()
    db.execute(f"PRAGMA synchronous={synchronous}")
    db.execute("PRAGMA journal_size_limit=4194304").fetchall()
    if not tables:
        db.executescript(
            f"BEGIN;{_TABLES}PRAGMA application_id={_APPLICATION};PRAGMA user_version={SCHEMA};COMMIT;"
        )
