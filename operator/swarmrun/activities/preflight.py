"""What is found before a token is spent: repository, branch, right to push, an earlier result."""

from __future__ import annotations

from swarmrun.activities.world import BASE, RunWorld
from swarmrun.api.swarmclass import AgentRole
from swarmrun.errors import NotFound
from swarmrun.models.ledger import require_prices
from swarmrun.steps import Look, Preflight


def preflight(world: RunWorld, given: Look) -> Preflight:
    """A base that is pinned is held already, wherever the branch has gone since.

    Raises InvalidResource, NotFound, PermissionDenied, RemoteUnavailable, each naming the mend."""
    snapshot = world.snapshot
    _models(world)
    remote = world.access
    found = remote.preflight(snapshot.repository.branch or "")
    already = branch = ""
    if not found.empty and not given.anew:
        try:
            published = remote.find_published(snapshot.branch, snapshot.spec_hash)
            already, branch = published.commit, published.branch
        except NotFound:
            pass
    found.require_push()
    if snapshot.publish.pull_request.enabled:
        remote.check_pull_requests()  # a missing token or an unknown host is told now, not when all is paid
    base = given.base_commit or found.base_commit
    if given.base_commit:
        world.repo.ensure(base)
    else:
        remote.fetch(base, branch=found.branch)
        world.repo.record(base)
    world.store.put(BASE, base.encode())
    return Preflight(
        base_branch=given.base_branch or found.branch or "main",
        base_commit=base,
        empty=not world.repo.list_tree(base),
        already_published=already,
        published_branch=branch,
    )


def _models(world: RunWorld) -> None:
    """A cap in dollars needs a price for every model that a role may use. Raises InvalidResource."""
    for role in AgentRole:
        tier, client = world.model(role.value)
        if world.snapshot.limits.cost is not None:
            require_prices(client.profile, tier.value)
