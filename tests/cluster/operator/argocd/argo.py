"""Argo CD as tests see it: the Applications of examples/argocd on a git repository of the test's own."""

from __future__ import annotations

import copy
import json
import subprocess
import time
from itertools import dropwhile
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[4]
EXAMPLES = ROOT / "examples/argocd"
CHARTS = ("charts/swarmrun", "charts/swarmrun-classes")
PATIENCE = 300.0
"""Seconds. Argo CD looks at its repositories every few seconds in a cluster for tests, every three minutes else."""

REFRESH = "argocd.argoproj.io/refresh"
FINALIZER = "resources-finalizer.argocd.argoproj.io"
COLUMNS = "jsonpath={.status.sync.status}|{.status.health.status}|{.status.operationState.startedAt}\n"


class Seen(NamedTuple):
    sync: str
    health: str
    operation: str
    """When the last sync began."""


class Repository:
    """A clone whose every change is pushed to where Argo CD looks."""

    def __init__(self, path: Path, remote: str) -> None:
        self._path = path
        self._git("init", "-q", "--initial-branch=main", ".", made=True)
        self._git("remote", "add", "origin", remote)

    def add(self, source: Path) -> None:
        """A directory of this checkout, as it stands."""
        target = self._path / source.relative_to(ROOT)
        subprocess.run(["mkdir", "-p", str(target.parent)], check=True)
        subprocess.run(["cp", "-r", str(source), str(target)], check=True)

    def push(self, files: dict[str, dict[str, Any] | None]) -> None:
        """Resources by path; None: the file goes."""
        for name, resource in files.items():
            path = self._path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True) if resource is None else path.write_text(yaml.safe_dump(resource))
            (path.parent / ".keep").touch()
        self._git("add", "-A")
        self._git("commit", "-q", "-m", "what should be", "--allow-empty")
        self._git("push", "-q", "origin", "HEAD:main")

    def _git(self, *args: str, made: bool = False) -> None:
        if made:
            self._path.mkdir(parents=True, exist_ok=True)
        who = ["-c", "user.name=ann", "-c", "user.email=ann@example.com"]
        subprocess.run(["git", *who, *args], cwd=self._path, check=True, capture_output=True)


class Application:
    """One Application, and all that was seen of it since it was made."""

    def __init__(self, kubectl: Any, spec: dict[str, Any], log: Path) -> None:
        self.kubectl, self.body, self.name = kubectl, spec, spec["metadata"]["name"]
        kubectl.apply(spec)
        self._log = log.open("wb")
        self._watch = subprocess.Popen(
            [*f"kubectl -n {kubectl.namespace} get application {self.name} --watch -o".split(), COLUMNS],
            stdout=self._log,
            stderr=subprocess.DEVNULL,
        )
        self._seen = log

    def seen(self) -> list[Seen]:
        rows = self._seen.read_text().splitlines()
        return [Seen(*row.split("|")) for row in rows if row.count("|") == 2]

    def status(self) -> dict[str, Any]:
        return json.loads(self.kubectl("get", "application", self.name, "-o", "json")).get("status", {})

    def until(self, health: str, sync: str = "Synced", *, within: float = PATIENCE) -> None:
        ends = time.monotonic() + within
        while True:
            now = self.status()
            found = now.get("health", {}).get("status"), now.get("sync", {}).get("status")
            if found == (health, sync):
                return
            assert time.monotonic() < ends, (found, now.get("operationState"), now.get("conditions"))
            time.sleep(0.5)

    def change(self, **values: Any) -> None:
        """Other values of its chart."""
        self.body = copy.deepcopy(self.body)
        self.body["spec"]["source"]["helm"]["valuesObject"] |= values
        self.kubectl.apply(self.body)

    def refresh(self) -> None:
        """Hard: what is cached of git and of the chart is forgotten. Returns when it was compared anew."""
        self.kubectl("annotate", "application", self.name, f"{REFRESH}=hard", "--overwrite")

        def compared(now: dict[str, Any]) -> bool:
            known = now["status"].get("sync", {}).get("status") in ("Synced", "OutOfSync")
            return known and REFRESH not in (now["metadata"].get("annotations") or {})

        self._settled(compared)

    def sync(self) -> None:
        """Everything is applied once more, whether it differs or not."""
        before = self.status()["operationState"]["startedAt"]
        options = self.body["spec"]["syncPolicy"]["syncOptions"]
        operation = {"operation": {"initiatedBy": {"username": "ann"}, "sync": {"syncOptions": options}}}
        time.sleep(1.1)  # operations are told apart by whole seconds
        self.kubectl("patch", "application", self.name, "--type=merge", "-p", json.dumps(operation))

        def done(now: dict[str, Any]) -> bool:
            state = now["status"]["operationState"]
            return state["startedAt"] != before and state["phase"] == "Succeeded" and "operation" not in now

        self._settled(done)

    def delete(self, *, cascade: bool) -> None:
        finalizers = [FINALIZER] if cascade else []
        patch = json.dumps({"metadata": {"finalizers": finalizers}})
        self.kubectl("patch", "application", self.name, "--type=merge", "-p", patch)
        self.kubectl("delete", "application", self.name, "--timeout=300s")
        self.close()

    def close(self) -> None:
        if self._watch.poll() is None:
            self._watch.kill()
            self._watch.wait()
        self._log.close()

    def _settled(self, done: Any, *, within: float = PATIENCE) -> None:
        ends = time.monotonic() + within
        while not done(now := json.loads(self.kubectl("get", "application", self.name, "-o", "json"))):
            assert time.monotonic() < ends, now["status"].get("operationState")
            time.sleep(0.3)


def quiet(application: Application) -> bool:
    """Once synced it stayed so, and nothing was applied a second time. `Unknown` is a comparison that failed, as by
    a repository server that was slow to answer: it says nothing of what was compared."""
    rows = list(dropwhile(lambda row: row.sync != "Synced", application.seen()))
    stayed = all(row.sync in ("Synced", "Unknown") for row in rows)
    return stayed and len({row.operation for row in rows}) == 1
