"""How soon a person is told of a mistake: the table of tests/cluster/operator/mistakes.py, one run each.

    python bench/mistakes_bench.py [CASE …]            prints a JSON list of figures, as the other benches do

Needs what the cluster's tests need: KUBECONFIG, kubectl, helm, both images there (SWARMRUN_TEST_*_IMAGE), a forge that
Pods reach (SWARMRUN_TEST_FORGE, SWARMRUN_TEST_FORGE_TOKEN). The chart is installed for it and removed.

All times are this process's: when a watch told it. A figure is from the cluster's word to the first condition on the
resource, Reconciling or Stalled, that is True with this reason. (A run whose sandbox is refused is Stalled once the
repository was looked at: it may hold the result already. The note says when.) The word is, by case, the resource's
making; that the Pod's status or an Event first said the reason; or that the Pod whose server has to find it out was
ready (what it then does, a question to the remote or a set-up command, is in the figure).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
for place in ("tests/e2e/cluster", "tests/cluster/operator"):
    sys.path.insert(0, str(ROOT / place))

from all import table  # noqa: E402
from kubectl import RESTRICTED, RUNS, Kubectl, Release  # noqa: E402
from mistakes import FORGE, TOKEN, WRONG, Wrong, credential, resources  # noqa: E402
from run_bench import figure  # noqa: E402

from swarmrun.kube.loss import read_events, read_pod  # noqa: E402

GOAL = 2.0
PATIENCE = 90.0
NOBODY = "http://127.0.0.1:9/v1"
"""No model is ever asked."""
Json = dict[str, Any]


class Watch:
    """What a watch of these namespaces told, and when, in order."""

    def __init__(self, kind: str, prefix: str) -> None:
        line = ["kubectl", "get", kind, "-A", "-w", "-o", "json"]
        self.told: list[tuple[float, Json]] = []
        self._prefix = prefix
        self._process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def of(self, namespace: str) -> list[tuple[float, Json]]:
        return [(when, it) for when, it in list(self.told) if it["metadata"]["namespace"] == namespace]

    def close(self) -> None:
        self._process.kill()

    def _read(self) -> None:
        assert self._process.stdout
        text = ""
        for line in self._process.stdout:
            text += line
            if line == "}\n":  # kubectl indents all but the outermost
                it, now = json.loads(text), time.time()
                text = ""
                if it["metadata"].get("namespace", "").startswith(self._prefix):
                    self.told.append((now, it))


class Watches:
    def __init__(self, prefix: str) -> None:
        self.runs, self.pods, self.events = (Watch(k, prefix) for k in (RUNS, "pods", "events"))

    def close(self) -> None:
        for watch in (self.runs, self.pods, self.events):
            watch.close()

    def conditioned(self, namespace: str, wrong: Wrong, *kinds: str) -> float | None:
        """When one of these conditions said it."""
        for when, it in self.runs.of(namespace):
            for c in it.get("status", {}).get("conditions", []):
                if c["type"] in kinds and (c["status"], c["reason"]) == ("True", wrong.reason):
                    return when
        return None

    def word(self, namespace: str, wrong: Wrong) -> float | None:
        """When the cluster said it."""
        if wrong.by == "class":
            return next((when for when, _ in self.runs.of(namespace)), None)
        if wrong.by == "pod":
            return min([*self._on_pods(namespace, wrong), *self._in_events(namespace, wrong)], default=None)
        git = wrong.by == "git"
        return next((t for t, pod in self.pods.of(namespace) if ready(pod) and is_git(pod) == git), None)

    def _on_pods(self, namespace: str, wrong: Wrong) -> Iterator[float]:
        for when, pod in self.pods.of(namespace):
            state = read_pod(pod)
            if state.reason == wrong.reason or (wrong.reason == "GitPodWaiting" and state.tells):
                yield when

    def _in_events(self, namespace: str, wrong: Wrong) -> Iterator[float]:
        for when, event in self.events.of(namespace):
            state = read_events([event])
            if state is not None and state.reason == wrong.reason:
                yield when


def ready(pod: Json) -> bool:
    return {"Ready": "True"}.items() <= {
        c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", [])
    }.items()


def is_git(pod: Json) -> bool:
    return pod["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "git"


def measured(watches: Watches, remote: str, namespace: str, wrong: Wrong) -> Json:
    kubectl = Kubectl(namespace)
    kubectl.apply(credential("forge", {"token": TOKEN}))
    if wrong.secret:
        kubectl.apply(credential("wrong", wrong.secret))
    cls, run = resources(namespace, remote, NOBODY, wrong)
    if wrong.before:
        kubectl.apply(*wrong.before)
        if wrong.before[0]["kind"] == "ResourceQuota":
            kubectl.until(lambda: "hard" in kubectl.items("quota")[0].get("status", {}), "the quota counts")
    kubectl.apply(cls)
    time.sleep(1)  # the class is no part of what is measured
    load = os.getloadavg()[0]
    kubectl.apply(run)
    last = "Reconciling" if wrong.waits else "Stalled"
    at_last = kubectl.until(
        lambda: watches.conditioned(namespace, wrong, last), f"{wrong}: {wrong.reason}", patience=PATIENCE
    )
    told = watches.conditioned(namespace, wrong, "Reconciling", "Stalled") or at_last
    word = watches.word(namespace, wrong)
    made = watches.runs.of(namespace)[0][0]
    kubectl("delete", RUNS, "bad", "--wait=false")
    kubectl("delete", "swarmclass", namespace)
    note = f"told by {wrong.by}, {told - made:.1f} s after the apply, load {load:.1f}"
    if at_last > told:
        note += f", {last} {at_last - told:.1f} s later"
    if word is None or word > told:
        return figure(f"{wrong}: {wrong.reason}", told - made, "s", GOAL, f"{note}; before any other word")
    return figure(f"{wrong}: {wrong.reason}", told - word, "s", GOAL, note)


@contextlib.contextmanager
def repository() -> Iterator[str]:
    import httpx

    headers = {"Authorization": f"token {TOKEN}"}
    with httpx.Client(base_url=f"{FORGE}/api/v1", headers=headers, trust_env=False, timeout=30) as forge:
        body = {"name": f"bad-{secrets.token_hex(4)}", "auto_init": True, "default_branch": "main"}
        made = forge.post("/user/repos", json=body).raise_for_status().json()
        try:
            yield f"{FORGE}/{made['full_name']}.git"
        finally:
            forge.delete(f"/repos/{made['full_name']}")


@contextlib.contextmanager
def installed(names: list[str], release: Release) -> Iterator[None]:
    try:
        for name in names:
            Kubectl(name).create_namespace(RESTRICTED)
        release.install()
        yield
    finally:
        with contextlib.suppress(AssertionError):
            release.uninstall()
        for name in names:
            Kubectl(name).delete_namespace()
        release.kubectl.delete_namespace()


def main(*wanted: str) -> None:
    if not (os.environ.get("KUBECONFIG") and FORGE and TOKEN):
        sys.exit("mistakes_bench: set KUBECONFIG, SWARMRUN_TEST_FORGE and SWARMRUN_TEST_FORGE_TOKEN")
    cases = [wrong for wrong in WRONG if not wanted or wrong.name in wanted]
    name = f"{os.environ.get('SWARMRUN_BENCH_PREFIX', 'swarmrun-bench')}-{secrets.token_hex(3)}"
    names = [f"{name}-{number}" for number in range(len(cases))]
    # Little is asked for: it shares a cluster for tests with others.
    release = Release(name, names, **{"resources.requests.cpu": "100m"})
    with installed(names, release), repository() as remote:
        watches = Watches(f"{name}-")
        figures: list[Json] = []
        try:
            for namespace, wrong in zip(names, cases, strict=True):
                try:
                    figures.append(measured(watches, remote, namespace, wrong))
                except AssertionError as exc:
                    print(f"{wrong}: {exc}", file=sys.stderr)
                    figures.append(figure(f"{wrong}: {wrong.reason}", PATIENCE, "s", GOAL, "never told"))
                print(table(figures[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
        finally:
            watches.close()
    json.dump(figures, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
