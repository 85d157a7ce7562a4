"""What is found before a token is spent: repository, branch, right to push, an earlier result."""

from __future__ import annotations

from swarmrun.activities.world import BASE, RunWorld
from swarmrun.api.swarmclass import AgentRole
from swarmrun.errors import NotFound
from swarmrun.models.ledger import require_prices
from swarmrun.steps import Preflight, RunRef


def preflight(world: RunWorld, _: RunRef) -> Preflight:
    """Raises InvalidResource, NotFound, PermissionDenied, RemoteUnavailable, each naming the mend."""
    snapshot = world.snapshot
    _models(world)
    remote = world.access
    found = remote.preflight(snapshot.repository.branch or "")
    already = ""
    if not found.empty:
        try:
            already = remote.find_published(snapshot.branch, snapshot.spec_hash).commit
        except NotFound:
            already = ""
    found.require_push()
    if snapshot.publish.pull_request.enabled:
        remote.check_pull_requests()  # a missing token or an unknown host is told now, not when all is paid
    remote.fetch(found.base_commit, branch=found.branch)
    world.repo.record(found.base_commit)
    world.store.put(BASE, found.base_commit.encode())
    return Preflight(
        base_branch=found.branch or "main",
        base_commit=found.base_commit,
        empty=not world.repo.list_tree(found.base_commit),
        already_published=already,
    )


def _models(world: RunWorld) -> None:
    """A cap in dollars needs a price for every model that a role may use. Raises InvalidResource."""
    for role in AgentRole:
        tier, client = world.model(role.value)
        if world.snapshot.limits.cost is not None:
            require_prices(client.profile, tier.value)
