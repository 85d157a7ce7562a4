"""Everything that works on a run is killed at seeded moments, and each run ends as if nothing had happened.

A kill is SIGKILL: a Pod is deleted with no grace, so that its kubelet ends it at once; the API server by the command
of `SWARMRUN_TEST_KILL_APISERVER`. Nobody kills the models' and the remote's Pods, which stand for other people's.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass

import pytest
from kubectl import RUNS, command
from place import BRANCH, NAME, Place
from servers import of_kind

PLACE = "kills"
KILLS = int(os.environ.get("SWARMRUN_E2E_KILLS") or 20)
SEED = int(os.environ.get("SWARMRUN_E2E_SEED") or random.SystemRandom().randrange(1, 1 << 31))
APISERVER = os.environ.get("SWARMRUN_TEST_KILL_APISERVER", "")
AT_ONCE = 3
"""Kills of one run. A choice: as many as fall into different phases of it."""
PATIENCE = 600
"""Seconds for one run with all its kills; one alone takes about 40. Ample on a busy machine."""


@dataclass
class Kill:
    victim: str
    after: float
    """Seconds after the one before, or after the run was applied."""


def deck(seed: int, count: int, lasts: float) -> list[Kill]:
    """Each victim as often as the others, in an order and at moments that the seed gives."""
    chance = random.Random(seed)
    victims = ["operator", "sandbox", "git", *(["api server"] if APISERVER else [])]
    drawn: list[str] = []
    while len(drawn) < count:
        drawn += chance.sample(victims, len(victims))
    return [Kill(victim, chance.uniform(0.05, 0.9) * lasts / AT_ONCE) for victim in drawn[:count]]


def strike(place: Place, victim: str, chance: random.Random) -> str:
    """Who was killed; empty where there was nobody to kill at that moment."""
    if victim == "api server":
        done = command("sh", "-c", APISERVER)
        assert done.returncode == 0, done.stderr
        # The next kill, and who looks at the run, meet one that answers.
        place.kubectl.until(
            lambda: command("kubectl", "get", "--raw", "/readyz").returncode == 0,
            "the API server is ready again",
            patience=180,
        )
        return victim
    if victim == "operator":
        kubectl, names = place.release.kubectl, [place.release.pod()]
    else:
        kubectl = place.kubectl
        names = kubectl.names("pods", "-l", f"app.kubernetes.io/component={victim},swarmrun.dev/run={NAME}")
    if not [name for name in names if name]:
        return ""
    name = chance.choice(names)
    kubectl("delete", "pod", name, "--grace-period=0", "--force", "--wait=false", "--ignore-not-found")
    return f"{victim} {name}"


def one_run(place: Place, kills: list[Kill], chance: random.Random, expected: str, number: int) -> list[str]:
    """Applied, killed, and looked at once it has ended; gives who was killed."""
    kubectl, struck = place.kubectl, list[str]()
    remote = f"{NAME}-{number}"
    (cls,), (run,) = of_kind(place.resources, "SwarmClass"), of_kind(place.resources, "SwarmRun")
    if classes := volumes(place):
        # With volumes, where the cluster has a class for them: they must go, too.
        cls["spec"]["pods"] |= {"storageClass": classes[0]}
    run["spec"]["repository"] = {"url": place.git.url(remote)}
    kubectl.apply(cls, run)
    waiting = [*kills]
    due = time.monotonic() + (waiting[0].after if waiting else 0)
    ends = time.monotonic() + PATIENCE
    while "finishedAt" not in (status := kubectl.status(NAME)) or status["phase"] not in (
        "Succeeded",
        "Failed",
    ):
        assert time.monotonic() < ends, f"run {number} has not ended after {struck}\n{kubectl.state()}"
        if waiting and time.monotonic() >= due:
            if who := strike(place, waiting[0].victim, chance):
                struck.append(who)
                waiting.pop(0)
                print(f"  {time.strftime('%H:%M:%S')} killed {who}", flush=True)
            due = time.monotonic() + (waiting[0].after if waiting and who else 0.3)
        time.sleep(0.2)
    told = f"run {number} after {struck}: {status}"
    assert (status["phase"], status["progress"]) == ("Succeeded", "4/4"), told
    heads = place.git.heads(remote)
    assert (set(heads), heads[BRANCH]) == ({"main", BRANCH}, expected), told
    assert place.git.pushes(remote, BRANCH) == 1, told
    place.clean()
    kubectl("delete", RUNS, NAME, "--timeout=20s")
    return struck


def volumes(place: Place) -> list[str]:
    """Storage classes, the default one first."""
    found = place.kubectl.items("storageclass")
    default = "storageclass.kubernetes.io/is-default-class"
    found.sort(key=lambda c: c["metadata"].get("annotations", {}).get(default) != "true")
    return [c["metadata"]["name"] for c in found]


@pytest.mark.timeout((PATIENCE + 300) * (4 + KILLS // AT_ONCE))
def test_runs_end_with_the_right_tree_whoever_is_killed_at_whichever_moment(
    place: Place, expected: str
) -> None:
    chance = random.Random(SEED)
    began = time.monotonic()
    one_run(place, [], chance, expected, 0)
    lasts = time.monotonic() - began
    kills = deck(SEED, KILLS, lasts)
    print(f"seed {SEED}, {KILLS} kills; an undisturbed run takes {lasts:.0f} s", flush=True)
    number, struck = 0, list[str]()
    while len(struck) < KILLS:
        number += 1
        struck += one_run(place, kills[len(struck) : len(struck) + AT_ONCE], chance, expected, number)
    print(
        f"{len(struck)} kills in {number} runs: all published the same tree, once, and left nothing",
        flush=True,
    )
