"""Resources as the API server gives them, which may be of a newer CRD than this program knows."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

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


def _remove(at: Any, path: list[int | str], last: int | str) -> None:
    for step in path:
        at = at[step]
    del at[last]
