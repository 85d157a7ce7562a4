"""What a watch of Pods is believed, and when the API server is asked all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from swarmrun.errors import NotFound, RemoteUnavailable
from swarmrun.kube import pods as module
from swarmrun.kube.pods import Pods


def pod(name: str, version: int, phase: str = "Pending") -> dict[str, Any]:
    meta = {"namespace": "n", "name": name, "resourceVersion": str(version)}
    return {"metadata": meta, "status": {"phase": phase}}


class Api:
    """One collection: a list, then events one by one; every look that is asked for is counted."""

    def __init__(self, *listed: dict[str, Any]) -> None:
        self.listed = list(listed)
        self.version = 10
        self.events: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue()
        self.asked: list[str] = []
        self.lists = 0

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        if path.endswith("/pods"):
            self.lists += 1
            return {"metadata": {"resourceVersion": str(self.version)}, "items": self.listed}
        self.asked.append(path.rsplit("/", 1)[1])
        return pod(self.asked[-1], 99, "Asked")

    async def watch(self, path: str, **query: str) -> AsyncIterator[dict[str, Any]]:
        while (event := await self.events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    async def tell(self, type: str, it: dict[str, Any]) -> None:
        await self.events.put({"type": type, "object": it})
        await settled()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def play(scene: Callable[[Api, Pods], Awaitable[None]], *listed: dict[str, Any]) -> Api:
    async def go() -> Api:
        api = Api(*listed)
        it = Pods(api, ["n"])  # type: ignore[arg-type]
        try:
            await it.get("n", "begin")  # nothing was told yet
            api.asked.clear()
            await settled()
            await scene(api, it)
        finally:
            await it.close()
        return api

    return asyncio.run(go())


def phase(it: dict[str, Any]) -> str:
    return it["status"]["phase"]


def test_what_was_listed_and_told_is_not_asked_for() -> None:
    async def scene(api: Api, it: Pods) -> None:
        assert phase(await it.get("n", "a")) == "Pending"
        await api.tell("MODIFIED", pod("a", 11, "Running"))
        assert phase(await it.get("n", "a")) == "Running"
        await api.tell("DELETED", pod("a", 12))
        with pytest.raises(NotFound):
            await it.get("n", "a")

    assert play(scene, pod("a", 5)).asked == []


def test_what_was_just_made_is_known_before_the_watch_tells_of_it_and_outlives_an_older_list() -> None:
    async def scene(api: Api, it: Pods) -> None:
        it.made(pod("b", 20))
        assert phase(await it.get("n", "b")) == "Pending"
        await api.events.put(None)  # the watch ends in order, and the list that follows is from before
        await settled()
        assert api.lists == 2
        assert phase(await it.get("n", "b")) == "Pending"
        # An answer that comes late does not undo what was told.
        await api.tell("MODIFIED", pod("b", 22, "Running"))
        it.made(pod("b", 20))
        assert phase(await it.get("n", "b")) == "Running"

    assert play(scene).asked == []


def test_a_newer_list_forgets_what_it_does_not_hold() -> None:
    async def scene(api: Api, it: Pods) -> None:
        api.listed, api.version = [], 30
        await api.events.put(None)
        await settled()
        with pytest.raises(NotFound):
            await it.get("n", "a")

    play(scene, pod("a", 5))


def test_a_watch_that_has_gone_silent_or_away_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(api: Api, it: Pods) -> None:
        monkeypatch.setattr(module, "FRESH", 0.0)
        assert phase(await it.get("n", "a")) == "Asked"
        monkeypatch.setattr(module, "FRESH", 60.0)
        assert phase(await it.get("n", "a")) == "Pending"
        await api.events.put(RemoteUnavailable("gone"))
        await settled()
        assert phase(await it.get("n", "a")) == "Asked"

    assert play(scene, pod("a", 5)).asked == ["a", "a"]


def test_what_was_heard_costs_nothing_and_is_told_however_old_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(api: Api, it: Pods) -> None:
        monkeypatch.setattr(module, "FRESH", -1.0)
        assert phase(it.heard("n", "a")) == "Pending"
        await api.tell("DELETED", pod("a", 11))
        with pytest.raises(NotFound):
            it.heard("n", "a")
        assert api.asked == []
        await api.events.put(RemoteUnavailable("away"))
        await settled()
        with pytest.raises(RemoteUnavailable):
            it.heard("n", "a")

    play(scene, pod("a", 1))
