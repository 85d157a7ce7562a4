"""Caps on sandboxes, of a class and of the whole operator, and who is let in when.

Sandboxes are counted, not Pods looked for: a run is granted a number of them when it starts, and holds at most
that many until it says that it needs fewer. It starts only when two are free, its integration sandbox and one
agent's, and never has to give one of these back: whoever was let in can finish, so nobody waits for ever. A run
whose plan a person must approve is let in with no more than these two, since that may take days.

Who came first is let in first. A run that only its own class's cap keeps out holds up nobody of another class.
While others wait a run gets two; what is left when nobody waits is handed to those at work.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace

LEAST = 2
"""Sandboxes that a run needs at the same time to get anywhere."""


@dataclass(frozen=True, order=True)
class Claim:
    """What a run asks for. The order is the order of admission."""

    created: str
    """RFC 3339 time of the resource's making."""
    instance: str
    class_name: str = ""
    class_cap: int | None = None
    """None: the class has no cap."""
    wanted: int = LEAST
    """Sandboxes at work at once, at most."""
    at_first: int | None = None
    """Of these, what it can use before it is RUNNING, where that is known to be less."""


@dataclass
class _Grant:
    claim: Claim
    held: int
    """Counts against the caps."""
    told: int
    """The number that the run was told last."""


class Capacity:
    """Used by many threads. `cap`: sandboxes of all runs together; None: no cap."""

    def __init__(self, cap: int | None = None) -> None:
        self._cap = cap
        self._granted: dict[str, _Grant] = {}
        self._waiting: dict[str, Claim] = {}
        self._lock = threading.Lock()
        self.restored = False
        """What runs at work hold is known."""

    def restore(self, claims: Iterable[tuple[Claim, int]]) -> None:
        """Runs at work when this process began, and what each holds."""
        with self._lock:
            for claim, held in claims:
                self._granted[claim.instance] = _Grant(claim, held, held)
            self.restored = True

    def admit(self, claim: Claim) -> int:
        """Sandboxes that the run may hold from now on; 0: it waits, and is asked for again."""
        with self._lock:
            if claim.instance in self._granted:
                return self._granted[claim.instance].held
            self._waiting[claim.instance] = claim
            room = self._room(claim)
            if room is not None and room < LEAST:
                return 0
            del self._waiting[claim.instance]
            spare = None if room is None else room - LEAST * len(self._waiting)
            most = claim.wanted if claim.at_first is None else min(claim.wanted, claim.at_first)
            held = most if spare is None else max(LEAST, min(most, spare))
            self._granted[claim.instance] = _Grant(claim, held, held)
            return held

    def grow(self, instance: str) -> int:
        """What the run may hold from now on, where that is more than it was told; else 0."""
        with self._lock:
            grant = self._granted.get(instance)
            if grant is None or grant.held >= grant.claim.wanted or self._rival(grant.claim):
                return 0
            room = self._room(grant.claim)
            more = grant.claim.wanted - grant.held
            if room is not None:
                more = min(more, room)
            if more <= 0:
                return 0
            grant.held = grant.told = grant.held + more
            return grant.told

    def _rival(self, claim: Claim) -> bool:
        """Whether somebody waits for what it would take."""
        others = self._waiting.values()
        return any(self._cap is not None or other.class_name == claim.class_name for other in others)

    def needs(self, instance: str, told: int, at_most: int) -> bool:
        """The run, which knows that it may hold `told`, needs no more than `at_most` from now on. True when that
        leaves room for others."""
        with self._lock:
            grant = self._granted.get(instance)
            if grant is None:
                return False
            if told > grant.told:
                # It has heard a last word of the process before this one, which knew only what it held then.
                grant.told, grant.held = told, max(grant.held, at_most)
            # One that has not heard yet of what it was told last may need that, too.
            if told < grant.told or at_most >= grant.held:
                return False
            if at_most < told:
                grant.claim = replace(grant.claim, wanted=at_most)
            grant.held = at_most
            return True

    def leave(self, instance: str) -> bool:
        """It has ended, or does not want to begin any more. True when that leaves room for others."""
        with self._lock:
            self._waiting.pop(instance, None)
            return self._granted.pop(instance, None) is not None

    def withdraw(self, instance: str) -> None:
        """It does not wait any more, at least not for sandboxes. What it was granted stays."""
        with self._lock:
            self._waiting.pop(instance, None)

    def next(self, most: int = 8) -> list[str]:
        """Who waits, the first first. `most`: so many are let in between two looks (arbitrary)."""
        with self._lock:
            return [claim.instance for claim in sorted(self._waiting.values())[:most]]

    def why(self, claim: Claim) -> str:
        """What a person whose run waits is told. The same text as long as it waits: a status is written for each
        change of it."""
        caps = [
            f"SwarmClass {claim.class_name} allows {claim.class_cap} sandboxes at once (spec.maxSandboxes)"
        ]
        if self._cap is not None:
            mine = [] if claim.class_cap is None else caps
            caps = [*mine, f"the operator allows {self._cap} (maxSandboxes of its chart)"]
        return f"waits until {LEAST} sandboxes are free: {'; '.join(caps)}"

    # ------------------------------------------------------------ under the lock

    def _room(self, claim: Claim) -> int | None:
        """Sandboxes free for this run once those before it have had their two; None: any number."""
        free = None if self._cap is None else self._cap - sum(g.held for g in self._granted.values())
        classes = {claim.class_name: self._free_of(claim)}
        for earlier in sorted(self._waiting.values()):
            if earlier >= claim:
                break
            of_class = classes.setdefault(earlier.class_name, self._free_of(earlier))
            if of_class is not None:
                if of_class < LEAST:
                    continue
                classes[earlier.class_name] = of_class - LEAST
            if free is not None:
                free -= LEAST
        found = [f for f in (free, classes[claim.class_name]) if f is not None]
        return max(0, min(found)) if found else None

    def _free_of(self, claim: Claim) -> int | None:
        if claim.class_cap is None:
            return None
        return claim.class_cap - sum(
            g.held for g in self._granted.values() if g.claim.class_name == claim.class_name
        )
