"""Which SwarmClass a run uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from swarmrun.api.served import served
from swarmrun.api.swarmclass import SwarmClass
from swarmrun.errors import InvalidResource, NotFound

Body = Mapping[str, Any]


def choose(name: str | None, classes: Mapping[str, Body]) -> SwarmClass:
    """`classes` by name, as the API server has them.

    Raises NotFound where the class may still come, InvalidResource where somebody must mend it first.
    """
    if name:
        if name not in classes:
            raise NotFound(
                f"SwarmClass {name} does not exist",
                mend="create it, or name another in spec.className",
                reason="SwarmClassNotFound",
            )
        return parse(classes[name])
    defaults = sorted(n for n, body in classes.items() if body.get("spec", {}).get("default") is True)
    if not defaults:
        raise NotFound(
            "the run names no SwarmClass and none is the default",
            mend="set spec.className, or spec.default on a SwarmClass",
            reason="SwarmClassNotFound",
        )
    if len(defaults) > 1:
        raise InvalidResource(
            f"the run names no SwarmClass and {len(defaults)} are the default: {', '.join(defaults)}",
            field="spec.className",
            mend="leave spec.default on one of them, or set spec.className",
            reason="DefaultClassAmbiguous",
        )
    return parse(classes[defaults[0]])


def parse(body: Body) -> SwarmClass:
    """Raises InvalidResource."""
    try:
        cls = served(
            SwarmClass, {k: body[k] for k in ("apiVersion", "kind", "metadata", "spec") if k in body}
        )
    except ValidationError as exc:
        raise InvalidResource(
            f"SwarmClass {body.get('metadata', {}).get('name', '')}: {explain(exc)}", reason="InvalidClass"
        ) from exc
    models = cls.spec.models
    for name, tier in (("premium", models.premium), ("standard", models.standard), ("light", models.light)):
        if tier and tier.endpoint.startswith("cassette:"):
            raise InvalidResource(
                f"SwarmClass {cls.metadata.name}: spec.models.{name}.endpoint is a recording's file",
                mend="serve it (`swarmrun cassette serve`) and name the server's address",
                reason="InvalidClass",
            )
    return cls


def explain(exc: ValidationError) -> str:
    """The first problems, `spec.goal: Field required; …`."""
    errors = exc.errors(include_url=False, include_input=False)
    shown = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in errors[:3]]
    more = f" and {len(errors) - 3} more" if len(errors) > 3 else ""
    return "; ".join(shown) + more
