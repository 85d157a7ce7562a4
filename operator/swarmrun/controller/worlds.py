"""The worlds of all runs that a worker works on: opened when a step first asks, closed when the run ends.

A worker beside others never hears of that end. There a world that no step has used for a while goes, and with it its
repository; whoever takes the run's next step opens it again and fills the repository from the artifacts.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from swarmrun.activities.world import RunWorld
from swarmrun.api.resolve import Snapshot
from swarmrun.api.served import stored
from swarmrun.api.swarmclass import ModelTier, Tier
from swarmrun.artifacts.store import open_store
from swarmrun.controller.hands import Hands
from swarmrun.durable.bridge import Bridge
from swarmrun.errors import EngineError, NotFound
from swarmrun.git.repo import RunRepo
from swarmrun.models.client import client_for
from swarmrun.ports import ArtifactStore, ModelClient

SNAPSHOT = "snapshot.json"
"""Artifact of a run: what it works from."""

MAX_OPEN = 256
"""Worlds kept open. One holds a few plans; the number is a choice. A dropped one is opened again."""
IDLE_SECONDS = 900.0
"""How long a worker keeps a repository that nothing uses. A choice: a run at work takes steps more often, and to fill
one again costs as much as its first step here did."""


class Models:
    """Model clients by their tier's values, shared by all runs: each holds a connection pool."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._clients: dict[str, ModelClient] = {}
        self._lock = threading.Lock()

    def __call__(self, tier: ModelTier) -> ModelClient:
        key = tier.model_dump_json()
        with self._lock:
            if key not in self._clients:
                self._clients[key] = client_for(tier)
            return self._clients[key]

    def close(self) -> None:
        while self._clients:
            self._bridge.run(self._clients.popitem()[1].close())


@dataclass
class _Open:
    world: RunWorld
    users: int = 0
    """Steps that work on it now."""
    used: float = 0.0
    """Monotonic time at which the last one ended."""


class Worlds:
    """`activities.world.Worlds` for many runs. `caches` holds their bare repositories, `artifacts` is the store's
    URL; everything of a run is below `runs/<run>` there.

    `tidies`: what is dropped goes with its repository, and `tidy` is called now and then; for a process that does not
    hear of every run's end (`close`). `caches` is of this process alone then.
    """

    def __init__(
        self, artifacts: str, caches: Path, hands: Hands, bridge: Bridge, *, tidies: bool = False
    ) -> None:
        self._artifacts = artifacts.rstrip("/")
        self._caches = caches
        self._hands = hands
        self._bridge = bridge
        self._models = Models(bridge)
        self._open: OrderedDict[str, _Open] = OrderedDict()
        """Those used last stand last."""
        self._lock = threading.Lock()
        self._tidies = tidies

    @contextmanager
    def __call__(self, run: str) -> Iterator[RunWorld]:
        """Nothing of it goes meanwhile, unless `close` is called. Raises NotFound for a run that was never begun or
        is removed."""
        it = self._taken(run)
        try:
            yield it.world
        finally:
            with self._lock:
                it.users -= 1
                it.used = time.monotonic()
                if run in self._open:
                    self._open.move_to_end(run)

    def tidy(self, idle: float = IDLE_SECONDS) -> None:
        """Worlds that no step has used for so many seconds go, with their repositories."""
        with self._lock:
            before = time.monotonic() - idle
            gone = [self._drop(run) for run in self._unused() if self._open[run].used <= before]
        _removed(gone)

    def store(self, run: str) -> ArtifactStore:
        return open_store(f"{self._artifacts}/runs/{run}")

    def begin(self, snapshot: Snapshot) -> Snapshot:
        """Stores what the run works from, and returns it.

        One of the same generation stays: an engine that has lost the run starts it again, and what is stored
        already belongs to that snapshot.
        """
        store = self.store(snapshot.run)
        try:
            known = stored(Snapshot, store.get(SNAPSHOT), SNAPSHOT)
            if known.generation == snapshot.generation:
                return known
        except NotFound:
            pass
        store.put(SNAPSHOT, snapshot.model_dump_json(by_alias=True).encode())
        return snapshot

    def close(self, run: str) -> None:
        """Of a run that has ended: its artifacts stay, its repository can be filled from them again."""
        with self._lock:
            it = self._open.pop(run, None)
        if it is not None:
            _close(it.world)
        shutil.rmtree(self._repo(run), ignore_errors=True)

    def remove(self, run: str) -> None:
        """Sandboxes, repository and artifacts, whatever there is of them. Idempotent."""
        # Of a run without a snapshot nothing was ever started.
        with suppress(NotFound), self(run) as world:
            self._bridge.run(world.provider.release_run(run))
        self.close(run)
        store = self.store(run)
        # The snapshot goes last: a removal that was cut short finds the run again.
        for key in sorted(store.list(""), key=lambda key: key == SNAPSHOT):
            store.delete(key)
        if self._artifacts.startswith("file://"):
            shutil.rmtree(unquote(urlsplit(f"{self._artifacts}/runs/{run}").path), ignore_errors=True)

    def shut(self) -> None:
        """Ends the connections to models."""
        self._models.close()

    def _taken(self, run: str) -> _Open:
        """Opened where it is not; one more works on it."""
        gone: list[Path] = []
        with self._lock:
            if run in self._open:
                self._open[run].users += 1
                return self._open[run]
        world = self._opened(run)
        with self._lock:
            it = self._open.setdefault(run, _Open(world))
            it.users += 1
            over = len(self._open) - MAX_OPEN
            if over > 0:
                gone = [self._drop(other) for other in self._unused()[:over]]
        _removed(gone)
        return it

    def _unused(self) -> list[str]:
        """Oldest first."""
        return [run for run, it in self._open.items() if not it.users]

    def _drop(self, run: str) -> Path:
        """Under the lock, so that nobody opens it before its repository is out of the way: that is only renamed
        here, since a large one takes its time to be removed."""
        _close(self._open.pop(run).world)
        aside = self._caches / f".gone-{secrets.token_hex(8)}"
        if self._tidies:
            with suppress(OSError):  # never made; else it stays, and serves whoever opens it again
                self._repo(run).rename(aside)
        return aside

    def _repo(self, run: str) -> Path:
        return self._caches / f"{run}.git"

    def _opened(self, run: str) -> RunWorld:
        store = self.store(run)
        snapshot = stored(Snapshot, store.get(SNAPSHOT), SNAPSHOT)

        def model_of(tier: Tier) -> ModelClient:
            return self._models(snapshot.tiers[tier])

        repo = RunRepo(self._repo(run), store, "")
        return RunWorld(
            snapshot=snapshot,
            store=store,
            repo=repo,
            provider=self._hands.provider(snapshot),
            bridge=self._bridge,
            model_of=model_of,
            remote=_not_here,
            pull_requests=_not_here,
            repository=self._hands.repository(snapshot, repo),
            earlier=self.store,
        )


def _close(world: RunWorld) -> None:
    # A git Pod's is a connection; a direct one holds nothing.
    close = getattr(world.repository, "close", None)
    if close is not None:
        close()


def _removed(places: list[Path]) -> None:
    for place in places:
        shutil.rmtree(place, ignore_errors=True)


def _not_here() -> NoReturn:
    raise EngineError("the operator reaches a remote by its repository access only")
