"""What another version of this program may have written: resources of a newer CRD, and what we stored ourselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from swarmrun.errors import StorageUnavailable

Model = TypeVar("Model", bound=BaseModel)


def served(model: type[Model], body: Mapping[str, Any]) -> Model:
    """Fields that this program does not know are left out: a mistyped one the API server has refused already, so
    it is one that CRDs have which were upgraded first. (In a file of one's own it is an error: `load`.)

    Raises ValidationError for everything else.
    """
    try:
        return model.model_validate(body, by_alias=True)
    except ValidationError as exc:
        unknown = [e["loc"] for e in exc.errors(include_url=False) if e["type"] == "extra_forbidden"]
        if not unknown:
            raise
    known = deepcopy(dict(body))
    for *path, last in unknown:
        _remove(known, path, last)
    return model.model_validate(known, by_alias=True)


def stored(model: type[Model], data: bytes, name: str) -> Model:
    """A model that a run has stored as JSON under `name`. Fields that this program does not know are left out, as of
    resources: the version that wrote it may be a newer one, before a rollback or beside this one in a rollout.

    Raises StorageUnavailable for what cannot be read all the same: a worker of the version that wrote it can.
    """
    try:
        return served(model, json.loads(data))
    except ValidationError as exc:
        raise _unreadable(name, first_problem(exc)) from exc
    except (ValueError, TypeError) as exc:
        raise _unreadable(name, str(exc)) from exc


def first_problem(exc: ValidationError) -> str:
    """`spec.goal: Field required`; without a place where it is of the whole."""
    first = exc.errors(include_url=False, include_input=False)[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))


def _unreadable(name: str, why: str) -> StorageUnavailable:
    return StorageUnavailable(
        f"artifact {name} cannot be read ({why}): another version of swarmrun has written it",
        mend="go on with the version that wrote it, or begin the run anew with this one",
        # The same as of a step that a worker does not know: waited for while versions are rolled out.
        reason="WorkerOfAnotherVersion",
    )


def _remove(at: Any, path: list[int | str], last: int | str) -> None:
    for step in path:
        at = at[step]
    del at[last]
