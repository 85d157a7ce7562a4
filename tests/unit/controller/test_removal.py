"""What goes when a run's time is over, or its resource: all that all its attempts have stored, by a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from swarmrun.api.status import Phase, SwarmRunStatus
from swarmrun.controller.attend import Attendants
from swarmrun.controller.hands import Hands
from swarmrun.controller.reconcile import RARELY, Memory, Reconciler
from swarmrun.controller.sweep import Sweep
from swarmrun.controller.worlds import Worlds
from swarmrun.durable.bridge import Bridge
from swarmrun.durable.channel import LocalError
from swarmrun.report import RunReport

UID = "6a6f1ef2-1a50-4f4b-b6ee-7191db4fc90f"
OTHER = "11111111-1a50-4f4b-b6ee-7191db4fc90f"
Body = Callable[..., dict[str, Any]]


class Provider:
    """Of sandboxes that were all released."""

    def __init__(self) -> None:
        self.released: list[str] = []

    async def release_run(self, run: str) -> None:
        self.released.append(run)


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def worlds(tmp_path: Path, provider: Provider) -> Iterator[Worlds]:
    bridge = Bridge()
    hands = Hands(lambda _: provider, lambda *_: None)  # type: ignore[arg-type, return-value]
    yield Worlds((tmp_path / "artifacts").as_uri(), tmp_path / "caches", hands, bridge)
    bridge.close()


@pytest.fixture
def reconciler(engine: Any, worlds: Worlds) -> Reconciler:
    return Reconciler(engine, worlds)


def stored(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "artifacts" / "runs").glob("*")}


def ended(attempt: int, ago: timedelta, uid: str = UID) -> SwarmRunStatus:
    """Of a resource whose last attempt ended so long ago."""
    then = datetime.now(UTC) - ago
    return SwarmRunStatus(
        run=f"{uid}-{attempt}",
        phase=Phase.SUCCEEDED,
        started_at=then,
        finished_at=then,
        observed_generation=1,
    )


@pytest.fixture
def attempts(
    reconciler: Reconciler, engine: Any, worlds: Worlds, run_body: Body, class_body: Body
) -> Callable[..., None]:
    """Makes a resource's attempts, each of which ends and leaves an artifact."""

    def make(number: int, uid: str = UID) -> None:
        memory = Memory(run_body(uid=uid), SwarmRunStatus())
        for attempt in range(1, number + 1):
            memory.body = run_body(annotations={"swarmrun.dev/attempt": str(attempt)}, uid=uid)
            run = f"{uid}-{attempt}"
            for _ in range(2):
                memory.status = reconciler.reconcile(memory, {"standard": class_body()}).status
                if run in engine.states and memory.status.phase is Phase.PENDING:
                    worlds.store(run).put("turns/coder/a/1/0001/reply.json", b"{}")
                    report = RunReport(run=run, name="shop", phase=Phase.SUCCEEDED)
                    report.started_at = report.finished_at = datetime.now(UTC)
                    engine.end(report)
            assert memory.status.phase is Phase.SUCCEEDED

    return make


def test_after_its_time_the_artifacts_of_every_attempt_go_and_nobody_else_s(
    reconciler: Reconciler,
    engine: Any,
    provider: Provider,
    run_body: Body,
    attempts: Callable[..., None],
    tmp_path: Path,
) -> None:
    attempts(3)
    attempts(2, uid=OTHER)
    assert len(stored(tmp_path)) == 5
    body = run_body(annotations={"swarmrun.dev/attempt": "3"}, ttlSecondsAfterFinished=3600)
    memory = Memory(body, ended(3, timedelta(minutes=59)))
    assert 0 < (reconciler.reconcile(memory, {}).again or 0) <= 60
    assert len(stored(tmp_path)) == 5
    memory.status = ended(3, timedelta(minutes=61))
    outcome = reconciler.reconcile(memory, {})
    # The resource, with what it shows, stays.
    assert (outcome.again, outcome.status) == (None, memory.status)
    assert stored(tmp_path) == {f"{OTHER}-1", f"{OTHER}-2"}
    assert set(provider.released) == {f"{UID}-{n}" for n in (1, 2, 3)}
    assert set(engine.states) == {f"{OTHER}-1", f"{OTHER}-2"}


def test_what_cannot_be_removed_yet_is_removed_later(
    reconciler: Reconciler,
    engine: Any,
    run_body: Body,
    attempts: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts(2)
    body = run_body(annotations={"swarmrun.dev/attempt": "2"}, ttlSecondsAfterFinished=0)
    memory = Memory(body, ended(2, timedelta(minutes=1)))

    def away(*_: Any, **__: Any) -> None:
        raise LocalError(grpc.StatusCode.UNAVAILABLE, "gone")

    with monkeypatch.context() as broken:
        broken.setattr(engine, "purge_orchestration", away)
        assert reconciler.reconcile(memory, {}).again == RARELY
        assert reconciler.reconcile(memory, {}).again == RARELY
    reconciler.answering.silence = None
    assert reconciler.reconcile(memory, {}).again is None
    assert stored(tmp_path) == set()
    assert engine.states == {}


class Kube:
    def __init__(self, *bodies: dict[str, Any]) -> None:
        self.bodies = list(bodies)

    async def runs(self, namespace: str = "") -> Any:
        for body in self.bodies:
            yield body

    async def write_status(self, *_: Any) -> None: ...

    async def report(self, *_: Any) -> None: ...


@pytest.mark.parametrize(
    "lost", [(), (1,), (1, 2)], ids=["all known", "the first lost", "the engine knows none"]
)
def test_when_the_resource_goes_the_artifacts_of_every_attempt_go(
    reconciler: Reconciler,
    engine: Any,
    run_body: Body,
    attempts: Callable[..., None],
    tmp_path: Path,
    lost: tuple[int, ...],
) -> None:
    attempts(2)
    attempts(1, uid=OTHER)
    for attempt in lost:
        del engine.states[f"{UID}-{attempt}"]
    kube = Kube(run_body(uid=OTHER))
    body = run_body(annotations={"swarmrun.dev/attempt": "2"}) | {"status": ended(2, timedelta()).dump()}

    async def story() -> None:
        attendants = Attendants(reconciler, kube)  # type: ignore[arg-type]
        sweep = Sweep(attendants, reconciler, engine, kube, ())  # type: ignore[arg-type]
        attendants.see_run(body)
        await asyncio.sleep(0.2)
        attendants.see_run(body, deleted=True)
        while await sweep.once():
            pass
        attendants.close()

    asyncio.run(story())
    assert stored(tmp_path) == {f"{OTHER}-1"}
    assert set(engine.states) == {f"{OTHER}-1"}


def test_removing_what_was_never_there_leaves_nothing_behind(worlds: Worlds, tmp_path: Path) -> None:
    worlds.remove(f"{UID}-1")
    assert stored(tmp_path) == set()


def test_an_engine_from_before_the_end_of_a_run_does_not_do_it_once_more(
    reconciler: Reconciler, engine: Any, run_body: Body, class_body: Body
) -> None:
    runs = {uid: f"{uid}-1" for uid in (UID, OTHER)}
    for uid in runs:
        reconciler.reconcile(Memory(run_body(uid=uid), SwarmRunStatus()), {"standard": class_body()})
    working = ended(1, timedelta(), OTHER).model_copy(update={"phase": Phase.RUNNING, "finished_at": None})
    kube = Kube(
        run_body() | {"status": ended(1, timedelta()).dump()},
        run_body(uid=OTHER) | {"status": working.dump()},
    )

    async def story() -> None:
        attendants = Attendants(reconciler, kube)  # type: ignore[arg-type]
        await Sweep(attendants, reconciler, engine, kube, ()).once()  # type: ignore[arg-type]
        attendants.close()

    asyncio.run(story())
    assert [(run, mail["kind"], mail["reason"]) for run, mail in engine.mail] == [
        (runs[UID], "cancel", "EndedAlready")
    ]
