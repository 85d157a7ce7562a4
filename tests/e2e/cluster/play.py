"""One hostile run with another beside it, and what there is to be seen of it afterwards."""

from __future__ import annotations

import base64
import copy
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import hostile
import scenes
from kubectl import ROOT, RUNS
from place import Place
from servers import of_kind, recording
from watching import Watch

sys.path.insert(0, str(ROOT / "tests/cluster/operator"))
from leaks import Search

PATIENCE = 900
"""Seconds for a run. One takes about two minutes on an idle machine, most of it the attacks' own time."""
TEST = PATIENCE + 3600
"""Seconds for a test of one: all that it waits for at most, the set-up of the module included."""
CREDENTIAL, KEY = "team-git", "MODEL_KEY"


@dataclass
class Scene:
    place: Place
    search: Search
    """Knows every secret, and `planted`, which is none: it counts only because it finds that one."""
    planted: str
    known: list[str]
    """Addresses that an attacker can come to know."""
    remote: str

    def class_of(self, models: str) -> dict[str, Any]:
        cls = copy.deepcopy(of_kind(self.place.resources, "SwarmClass")[0])
        for tier in cls["spec"]["models"].values():
            tier |= {"endpoint": models, "auth": {"type": "key", "env": KEY}}
        cls["metadata"]["name"] = models.split("//")[1].split(".")[0] + "-" + self.place.kubectl.namespace
        return cls

    def swarm(self, *words: str) -> str:
        """`kubectl swarm …`, the operator's read interface behind it."""
        system = self.place.release.kubectl.namespace
        env = {**os.environ, "SWARMRUN_OPERATOR": f"{system}/{system.removesuffix('-system')}-read"}
        line = [sys.executable, "-m", "swarmrun.cli.kubectl.main", "-n", self.place.kubectl.namespace, *words]
        done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout


class Play:
    """One hostile run, and one of somebody else's beside it, both to their ends."""

    def __init__(self, scene: Scene, name: str, said: hostile.Recording, **publish: Any) -> None:
        self.scene, self.name, self.said = scene, name, said
        place, kubectl = scene.place, scene.place.kubectl
        self.operator = place.release.pod()
        beside = scenes.journal_recording(turns=8, pause=8)
        classes = [
            scene.class_of(recording(kubectl, which, cassette, place.resources))
            for which, cassette in ((name, said.cassette()), ("beside", beside))
        ]
        mine, theirs = (cls["metadata"]["name"] for cls in classes)
        kubectl("delete", RUNS, "beside", "--ignore-not-found", "--timeout=20s")
        branch = f"swarm/beside-{name}"
        other = scenes.journal(
            place.git.url("beside"), name="beside", turns=8, className=theirs, publish={"branch": branch}
        )
        run = hostile.run(name, place.git.url(name), mine, CREDENTIAL, **publish)
        self.watch = Watch(kubectl)
        with self.watch:
            kubectl.apply(*classes, other)
            at_work = (
                "pods",
                "-l",
                "app.kubernetes.io/component=sandbox",
                "--field-selector=status.phase=Running",
            )
            kubectl.until(lambda: len(kubectl.names(*at_work)) >= 2, "the run beside is at work")
            kubectl.apply(run)
            kubectl.wait("condition=Finished", f"{RUNS}/{name}", f"{RUNS}/beside", within=PATIENCE)
        self.status = kubectl.status(name)
        self.beside = kubectl.status("beside")
        self.agents = {a["task"]: a for a in self.status["agents"]}
        events = kubectl.items("events", f"--field-selector=involvedObject.name={name}")
        self.events = [(e["type"], e["reason"], e["message"]) for e in events]

    def stored(self, task: str) -> list[str]:
        """What the brain has of an agent's turns."""
        return self.scene.swarm("logs", self.name, task, "--stored").splitlines()

    def logs_of(self, task: str) -> dict[str, list[str]]:
        """Lines of the Pods' own logs."""
        return {n: t.splitlines() for n, t in self.watch.logs.items() if n.startswith(f"{self.name}-{task}-")}

    def published(self) -> set[tuple[str, str]]:
        """Status letter and path of all that differs from the base."""
        line = (
            f"git -C /repositories/{self.name}.git diff --no-renames --name-status -z main swarm/{self.name}"
        )
        fields = base64.b64decode(self.scene.place.git.script(f"{line} | base64")).decode().split("\0")[:-1]
        return set(zip(fields[::2], fields[1::2], strict=True))

    def file(self, path: str) -> str:
        return self.scene.place.git.script(
            f"git -C /repositories/{self.name}.git show swarm/{self.name}:{path}"
        )
