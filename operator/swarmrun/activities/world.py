"""What activities reach of one run: its snapshot, store, repository, sandboxes, models and remote."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, Protocol, TypeVar

from swarmrun.api.plan import Plan
from swarmrun.api.resolve import Snapshot, amount
from swarmrun.api.served import stored
from swarmrun.api.swarmclass import AgentRole, Tier
from swarmrun.errors import BudgetExceeded, SandboxLost
from swarmrun.git.direct import DirectAccess
from swarmrun.git.remote import Remote
from swarmrun.git.repo import RunRepo
from swarmrun.models.ledger import cost, record, require_prices
from swarmrun.observability.genai import ObservedModel
from swarmrun.ports import (
    ArtifactStore,
    EgressRule,
    ModelClient,
    Profile,
    PullRequests,
    RepositoryAccess,
    Sandbox,
    SandboxProvider,
    SandboxSpec,
    Usage,
)
from swarmrun.steps import GONE, BoxRef, Ensure, UsageRecord

T = TypeVar("T")

BASE = "base.txt"
"""Artifact: the base commit."""
SCAFFOLD = "scaffold.txt"
"""Artifact: the commit with the contracts as code."""
BYTES_PER_TOKEN = 4
"""For reserving: English and code have about four bytes a token (a rule of thumb)."""
AUTHOR = "SwarmRun <swarmrun@users.noreply.github.com>"


def as_bytes(value: Any, *, sort_keys: bool = False) -> bytes:
    """JSON. A lone surrogate (a file name that is no UTF-8) becomes its JSON escape, and is read back the same."""
    return json.dumps(value, ensure_ascii=False, sort_keys=sort_keys).encode("utf-8", "backslashreplace")


class Bridge(Protocol):
    """Runs a coroutine on the shared event loop and waits for it."""

    def run(self, coroutine: Coroutine[Any, Any, T], /) -> T: ...


@dataclass
class RunWorld:
    snapshot: Snapshot
    store: ArtifactStore
    repo: RunRepo
    provider: SandboxProvider
    bridge: Bridge
    model_of: Callable[[Tier], ModelClient]
    remote: Callable[[], Remote]
    pull_requests: Callable[[], PullRequests | None]
    repository: RepositoryAccess | None = None
    """By what the remote is reached. None: directly, by `remote` and `pull_requests`."""
    earlier: Callable[[str], ArtifactStore] | None = None
    """The store of an earlier attempt of this run, by its run id."""
    caches: dict[str, Any] = field(default_factory=dict[str, Any])
    """What can be read again from the store; bounded by who puts it there."""
    seen: set[str] = field(default_factory=set[str])
    """Sandboxes that this process has had in hand."""

    @cached_property
    def access(self) -> RepositoryAccess:
        """The only way to the remote that a step takes."""
        return self.repository or DirectAccess(self.repo, self.remote, self.pull_requests, self.run)

    # ------------------------------------------------------------ models

    def model(self, role: str) -> tuple[Tier, ModelClient]:
        tier = self.snapshot.roles[AgentRole(role)]
        client = self.model_of(tier)
        return tier, ObservedModel(client, tier.value, lambda usage: cost(usage, client.profile))

    def usage(self, role: str, usage: Usage) -> UsageRecord:
        tier, client = self.model(role)
        return record(usage, client.profile, tier.value)

    # ------------------------------------------------------------ sandboxes

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.bridge.run(coroutine)

    def box(self, ref: BoxRef) -> Sandbox:
        """Raises SandboxLost; with reason `GONE` when this process never had it in hand."""
        try:
            box = self.run(self.provider.connect(ref.id))
        except SandboxLost as exc:
            if ref.id in self.seen:
                raise
            raise SandboxLost(exc.message, mend=exc.mend, reason=GONE) from exc
        self.seen.add(ref.id)
        return box

    def spec(self, given: Ensure) -> SandboxSpec:
        options = self.snapshot.sandbox
        resources = options.resources
        return SandboxSpec(
            id=given.id,
            run=self.snapshot.run,
            image=options.image or "",
            env={e.name: e.value for e in options.env},
            egress=options.egress.enabled,
            # A proxy resolves names itself.
            dns=options.egress.dns or (options.egress.enabled and self.snapshot.pods.egress_proxy is None),
            allow=tuple(EgressRule(rule.cidr, tuple(rule.ports)) for rule in options.egress.allow),
            cpu=amount(resources.cpu or "1"),
            memory_mb=int(amount(resources.memory or "2Gi")),
            disk_mb=int(amount(resources.disk or "10Gi")),
            pids=resources.pids or 512,
            clone_of=given.clone_of if options.setup else "",
            setup_only=options.egress.setup_only,
            setup=given.setup if options.setup else "none",
        )

    # ------------------------------------------------------------ artifacts

    def put(self, key: str, value: Any) -> str:
        return self.store.put(key, as_bytes(value))

    def get(self, key: str) -> Any:
        return json.loads(self.store.get(key))

    def text(self, key: str) -> str:
        return self.store.get(key).decode() if key else ""

    def plan(self, key: str) -> Plan:
        plans: dict[str, Plan] = self.caches.setdefault("plans", {})
        if key not in plans:
            plans[key] = stored(Plan, self.store.get(key), key)
        return plans[key]

    def save_plan(self, plan: Plan) -> tuple[str, str]:
        """Key and SHA-256 of a plan; the same plan has the same key."""
        data = as_bytes(plan.dump(), sort_keys=True)
        digest = hashlib.sha256(data).hexdigest()
        return self.store.put(f"plans/{digest[:16]}.json", data), digest

    def date(self, name: str) -> int:
        """Unix time of the first time this was asked for: a step that runs again makes the same commit."""
        return int(self.store.put_new(f"dates/{name}", str(int(time.time())).encode()))

    @cached_property
    def guards(self) -> bool:
        return self.snapshot.guards


def reserve(needed: int, left: int, what: str) -> None:
    """A call reserves its prompt and its output cap beforehand. Raises BudgetExceeded."""
    if needed > left:
        raise BudgetExceeded(
            f"{what}: the next call may take {needed} tokens, {left} are left of its share",
            mend="raise spec.budget.tokens (30 % of it is held back for merge, judge and fix)",
        )


def reserve_money(prompt: int, profile: Profile, tier: str, left: str | None, what: str) -> None:
    """The same in US dollars, where there is a ceiling. Raises BudgetExceeded, and what `require_prices` raises."""
    if left is None:
        return
    require_prices(profile, tier)
    needed = cost(Usage(input=prompt, output=profile.max_output), profile)
    if needed is not None and needed > Decimal(left):
        raise BudgetExceeded(
            f"{what}: the next call may cost {needed:.4f} USD, {left} are left of its share",
            mend="raise spec.budget.cost",
        )


class Worlds(Protocol):
    """The world of a run, for as long as one step works on it. Raises NotFound."""

    def __call__(self, run: str, /) -> AbstractContextManager[RunWorld]: ...
