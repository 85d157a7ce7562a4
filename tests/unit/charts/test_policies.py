"""What the chart's admission policies say, as the API server passes it on, and what the operator makes of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from rendering import of_kind, rendered

from swarmrun.errors import PermissionDenied
from swarmrun.kube.api import refusal
from swarmrun.kube.mends import mend_of

VALUES = {"params.metadata.name": "team-git", "variables.host": "git.example.com"}
"""What `messageExpression`s are made of."""
REASONS = {
    "pods": "OwnPolicyDenied",
    "objects": "OwnPolicyDenied",
    "deletions": "OwnPolicyDenied",
    "approvals": "PolicyDenied",
    "secrets": "SecretNotLabelled",
    "hosts": "SecretHostNotAllowed",
}
"""Of each policy, by the end of its name; a message of its own may have another."""


def said(validation: dict[str, Any]) -> str:
    """The message; of an expression, which joins texts and values, what it evaluates to."""
    if "message" in validation:
        return validation["message"]
    expression = validation["messageExpression"]
    for name, value in VALUES.items():
        expression = expression.replace(name, f"'{value}'")
    assert re.fullmatch(r"'[^']*'( \+ '[^']*')*", expression), expression
    return "".join(re.findall(r"'([^']*)'", expression))


def denials(release: str) -> list[tuple[str, str, int]]:
    """(policy's name, message, status), one each validation."""
    found: list[tuple[str, str, int]] = []
    for policy in of_kind(rendered(release=release), "ValidatingAdmissionPolicy"):
        for validation in policy["spec"]["validations"]:
            # Without a reason the API server answers Invalid.
            status = {"Forbidden": 403}.get(validation.get("reason", ""), 422)
            found.append((policy["metadata"]["name"], said(validation), status))
    return found


@pytest.mark.parametrize("release", ["swarmrun", "ops"])
def test_every_refusal_by_the_charts_own_policies_has_its_own_reason_and_mend(release: str) -> None:
    seen: set[str] = set()
    for name, message, status in denials(release):
        policy = f"ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request"
        body = {"message": f'pods "x" is forbidden: {policy}: {message}', "reason": "Invalid"}
        exc = refusal(status, json.dumps(body), "POST /x")
        kind = name.rpartition("-")[2]
        wanted = "RepositoryNotAllowed" if "read as another" in message else REASONS[kind]
        assert (type(exc), exc.reason) == (PermissionDenied, wanted), message
        assert mend_of(exc.reason), exc.reason
        seen.add(kind)
    assert seen == set(REASONS)


def test_what_is_said_of_a_secret_names_it_and_its_host() -> None:
    texts = [message for _, message, _ in denials("swarmrun")]
    assert "Secret team-git is not labelled swarmrun.dev/git-credential=true" in texts
    assert any(text.startswith("Secret team-git is not for host git.example.com (") for text in texts)
