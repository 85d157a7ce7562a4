"""Pods that a run could not give back at its end."""

from __future__ import annotations

import asyncio
from typing import Any

from swarmrun.controller.left_pods import LeftPods
from swarmrun.errors import RemoteUnavailable


class Api:
    """Pods of one namespace, by name: the run of each. `away`: it does not answer."""

    def __init__(self, **pods: str) -> None:
        self.pods = pods
        self.away = False
        self.lists = 0

    async def get(self, path: str, **query: str) -> Any:
        assert path == "/api/v1/namespaces/team/pods"
        assert query["labelSelector"] == "app.kubernetes.io/managed-by=swarmrun"
        if self.away:
            raise RemoteUnavailable("away")
        self.lists += 1
        return {
            "items": [
                {"metadata": {"name": name, "labels": {"swarmrun.dev/instance": run}}}
                for name, run in self.pods.items()
            ]
        }

    async def delete(self, path: str) -> None:
        del self.pods[path.rpartition("/")[2]]


def test_pods_of_ended_runs_go_and_no_others() -> None:
    api = Api(git="run-1", box="run-1", other="run-2")
    left = LeftPods(api)  # type: ignore[arg-type]
    asyncio.run(left.remove({"run-1": "team"}))
    assert api.pods == {"other": "run-2"}


def test_one_that_comes_after_its_run_has_ended_goes_too_and_then_nobody_looks_any_more() -> None:
    api = Api()
    left = LeftPods(api)  # type: ignore[arg-type]
    ended = {"run-1": "team"}

    async def story() -> None:
        await left.remove(ended)
        api.pods["late"] = "run-1"
        await left.remove(ended)
        assert api.pods == {}
        await left.remove(ended)
        seen = api.lists
        await left.remove(ended)
        assert api.lists == seen, "looking costs nothing once all is clear"
        # One more run ends.
        api.pods["box"] = "run-2"
        await left.remove(ended | {"run-2": "team"})
        assert api.pods == {}

    asyncio.run(story())


def test_an_api_server_that_is_away_is_asked_again() -> None:
    api = Api(box="run-1")
    left = LeftPods(api)  # type: ignore[arg-type]

    async def story() -> None:
        api.away = True
        for _ in range(3):
            await left.remove({"run-1": "team"})
        api.away = False
        await left.remove({"run-1": "team"})

    asyncio.run(story())
    assert api.pods == {}
