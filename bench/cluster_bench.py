"""The operator on a real cluster: how fast a sandbox is usable, what runs that wait cost, what a turn costs.

    python bench/cluster_bench.py            prints a JSON list of figures, as the other benches do

Needs KUBECONFIG, kubectl, helm, and both images there (`make e2e` builds them; their names: SWARMRUN_TEST_*_IMAGE). The
chart is installed for it and removed. Models are simulated by a recording in a Pod; the rest is real.

A sandbox is usable when the first command has run in it, in the clone: set-up writes down when that was. A bare Pod is
the very same Pod, image and probe included, made by kubectl and without anything around it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
sys.path.insert(0, str(ROOT / "tests" / "e2e" / "cluster"))

import scenes  # noqa: E402
from all import table  # noqa: E402
from figures import Operator  # noqa: E402
from kubectl import RESTRICTED, RUNS, SANDBOX, Kubectl, Release  # noqa: E402
from run_bench import figure  # noqa: E402
from servers import Git, example, of_kind, recording, serve  # noqa: E402

from swarmrun.kube.options import NetworkOptions, PodOptions, RunPlace  # noqa: E402
from swarmrun.ports import SandboxSpec  # noqa: E402
from swarmrun.sandbox.kubernetes.manifest import sandbox_pod  # noqa: E402

ROUNDS = 7
IDLE = 200
IDLE_SECONDS = 90
AGENTS, TURNS, THINKS = 4, 40, 3.0
"""Of the run whose requests are counted. Real models take longer for a turn than these 3 s."""
SETTLES = 5.0
"""Seconds after which a sandbox whose Pod is ready is usable, too; its agent's model thinks for longer."""
USABLE = "/sandbox/home/usable"
SETUP = "test -e ~/usable || date +%s.%N > ~/usable"
SMALL = {"cpu": "100m", "memory": "256Mi", "disk": "256Mi"}


class Bench:
    def __init__(self, release: Release, kubectl: Kubectl) -> None:
        self.release, self.kubectl = release, kubectl
        self.resources = example(kubectl.namespace)
        self.git = Git(kubectl)
        self.operator = Operator(release)
        self.cls = of_kind(self.resources, "SwarmClass")[0]
        self.cls["spec"]["sandbox"] = {"resources": SMALL}

    def prepare(self) -> None:
        serve(self.kubectl, self.resources)
        self.kubectl.apply(self.cls)
        self.git.commit("bench", {"README": "What was here before.\n"})

    def use(self, name: str, cassette: dict[str, Any]) -> None:
        """All tiers of the class answer from this recording."""
        url = recording(self.kubectl, name, cassette, self.resources)
        for tier in self.cls["spec"]["models"].values():
            tier["endpoint"] = url
        self.kubectl.apply(self.cls)

    def run(self, name: str, **spec: Any) -> dict[str, Any]:
        return scenes.journal(
            self.git.url("bench"), name=name, className=self.cls["metadata"]["name"], **spec
        )


class Watch:
    """When this process was first told that a Pod is there, and that it is ready."""

    def __init__(self, kubectl: Kubectl) -> None:
        form = '{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}'
        line = ["kubectl", "-n", kubectl.namespace, "get", "pods", "-w", "-o", f"jsonpath={form}"]
        self.there: dict[str, float] = {}
        self.ready: dict[str, float] = {}
        self._process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            name, *ready = line.split()
            self.there.setdefault(name, time.time())
            if ready == ["True"]:
                self.ready.setdefault(name, time.time())

    def close(self) -> None:
        self._process.kill()


# ---------------------------------------------------------------- how fast a sandbox is usable


def sandbox_figures(bench: Bench) -> list[dict[str, Any]]:
    # An agent's first answer takes long, so that its sandbox can be looked into.
    bench.use("slow", scenes.journal_recording(agents=1, turns=2, delay=20))
    watch = Watch(bench.kubectl)
    bare: list[float] = []
    bare_alone: list[float] = []
    first: list[float] = []
    further: list[float] = []
    try:
        for number in range(ROUNDS):
            name = f"bare-{number}"
            began = bare_pod(bench, name)
            bench.kubectl.until(lambda name=name: name in watch.ready, f"{name} is ready")
            bare.append(watch.ready[name] - began)
            bare_alone.append(watch.ready[name] - watch.there[name])
            bench.kubectl("delete", "pod", name, "--now", "--wait=true")
            began, usable = usable_sandboxes(bench, watch, f"first-{number}")
            (integration,) = [pod for pod in usable if "-integration-" in pod]
            (agent,) = [pod for pod in usable if pod != integration]
            first.append(usable[integration] - began)
            further.append(usable[agent] - watch.there[agent])
            bench.kubectl("delete", RUNS, f"first-{number}")
            bench.kubectl.until(lambda: not bench.kubectl.names("pods", "-l", OURS), "its Pods are gone")
    finally:
        watch.close()
    mid, mid_alone = statistics.median(bare), statistics.median(bare_alone)
    return [
        figure(
            "apply to first sandbox usable, less 500 ms, against a bare Pod",
            (statistics.median(first) - 0.5) / mid,
            "x",
            1.3,
            f"medians of {ROUNDS}: {statistics.median(first):.2f} s ({spread(first)}) and {mid:.2f} s ({spread(bare)})",
        ),
        figure(
            "a further sandbox usable, against a bare Pod",
            statistics.median(further) / mid_alone,
            "x",
            1.2,
            f"from the Pod's making: {statistics.median(further):.2f} s ({spread(further)}) and {mid_alone:.2f} s",
        ),
    ]


OURS = "app.kubernetes.io/managed-by=swarmrun"


def spread(values: list[float]) -> str:
    return f"{min(values):.2f}-{max(values):.2f}"


def bare_pod(bench: Bench, name: str) -> float:
    """A sandbox's Pod by hand; when that was asked for."""
    place = RunPlace(bench.kubectl.namespace, name, name)
    spec = SandboxSpec(name, run=name, cpu=0.1, memory_mb=256, disk_mb=256)
    fence = NetworkOptions("nobody", {"nobody": "nobody"})
    pod = sandbox_pod(place, spec, PodOptions(image=SANDBOX), fence, token_sha256="0" * 64)
    pod["metadata"] = {"name": name}
    began = time.time()
    bench.kubectl.apply(pod)
    return began


def usable_sandboxes(bench: Bench, watch: Watch, name: str) -> tuple[float, dict[str, float]]:
    """When a run was asked for, and when each of its two sandboxes was usable."""
    run = bench.run(name, agents=1, turns=2, sandbox={"setup": [SETUP]})
    kubectl = bench.kubectl
    began = time.time()
    kubectl.apply(run)
    mine = re.compile(rf"{name}-.*-a1-g1")
    pods: list[str] = kubectl.until(
        lambda: len(found := [pod for pod in watch.ready if mine.fullmatch(pod)]) == 2 and found,
        "both sandboxes are ready",
    )
    time.sleep(SETTLES)  # looking costs time of its own
    return began, {pod: float(kubectl("exec", pod, "--", "cat", USABLE)) for pod in pods}


# ---------------------------------------------------------------- what runs cost


def idle_figures(bench: Bench) -> list[dict[str, Any]]:
    kubectl, operator = bench.kubectl, bench.operator
    names = [f"idle-{number:03d}" for number in range(IDLE)]
    kubectl.apply(*(bench.run(name, agents=1, turns=2, suspend=True) for name in names))

    def waiting() -> bool:
        reasons = 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].reason}{"\\n"}{end}'
        found = kubectl("get", RUNS, "-o", reasons).split()
        assert not {"InvalidClass", "InvalidSpec", "SwarmClassNotFound"} & {*found}, found
        return found.count("Suspended") == IDLE

    kubectl.until(waiting, f"{IDLE} runs are suspended", patience=300)
    time.sleep(30)  # until nobody looks at them often any more
    with operator.counted():
        worked, began = operator.cpu(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        share = (operator.cpu() - worked) / (time.monotonic() - began) * 100
        requests = operator.requests()
    memory, most = operator.resident(), operator.memory()
    kubectl("delete", RUNS, *names)
    return [
        figure(
            f"{IDLE} idle runs: processor time of the operator",
            share,
            "% of a core",
            2,
            f"suspended ones, over {IDLE_SECONDS} s; {requests / IDLE_SECONDS:.2f} API requests a second",
        ),
        figure(f"{IDLE} idle runs: memory of the operator", memory, "MB", 250, f"{most:.0f} MB at most"),
    ]


def turn_figures(bench: Bench) -> list[dict[str, Any]]:
    kubectl, operator = bench.kubectl, bench.operator
    bench.use("journal", scenes.journal_recording(agents=AGENTS, turns=TURNS, delay=THINKS))
    with operator.counted():
        began = time.monotonic()
        kubectl.apply(bench.run("turns", agents=AGENTS, turns=TURNS))
        kubectl.wait("condition=Finished", f"{RUNS}/turns", within=600)
        took, requests = time.monotonic() - began, operator.requests()
    status = kubectl.status("turns")
    assert status["phase"] == "Succeeded", status
    turns = sum(agent["turns"] for agent in status["agents"])
    return [
        figure(
            "API requests per agent turn",
            requests / turns,
            "",
            0.5,
            f"{requests} in {took:.0f} s: one run of {AGENTS} agents x {TURNS} turns, apply to end, "
            f"models take {THINKS:g} s",
        )
    ]


PARTS = {"sandbox": sandbox_figures, "idle": idle_figures, "turns": turn_figures}


@contextlib.contextmanager
def installed() -> Iterator[Bench]:
    name = f"swarmrun-bench-{secrets.token_hex(3)}"
    kubectl = Kubectl(f"{name}-runs")
    release = Release(name, [kubectl.namespace])
    try:
        kubectl.create_namespace(RESTRICTED)
        release.install()
        yield Bench(release, kubectl)
    finally:
        with contextlib.suppress(AssertionError):
            release.uninstall()
        kubectl("delete", "swarmclass", kubectl.namespace, "--ignore-not-found")
        kubectl.delete_namespace()
        release.kubectl.delete_namespace()


def main(*wanted: str) -> None:
    if not os.environ.get("KUBECONFIG"):
        sys.exit("cluster_bench: set KUBECONFIG to a cluster for tests")
    with installed() as bench:
        bench.prepare()
        figures: list[dict[str, Any]] = []
        for name in wanted or PARTS:
            measured = PARTS[name](bench)
            print(table(measured), file=sys.stderr, flush=True)  # should a later part fail
            figures += measured
    json.dump(figures, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
