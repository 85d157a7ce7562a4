"""Whose token is this, and may it see that run? The API server is asked both."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict

from swarmrun.api import GROUP
from swarmrun.api.reading import AUDIENCE, TOKEN
from swarmrun.errors import PermissionDenied
from swarmrun.kube.api import KubeApi

REMEMBERED_SECONDS = 10.0
"""How long a right that was found counts: somebody who follows asks again and again. A choice: so long does a right
live on after it was taken away."""
REMEMBERED = 1024
ASKED_AT_ONCE = 8
"""Reviews under way: whoever reaches the port without a right must not keep the API server busy by us. A choice."""


class Gate:
    """On one event loop."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._allowed: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)

    async def check(self, token: str, namespace: str, name: str) -> str:
        """Returns who it is. Raises PermissionDenied: `Unauthenticated` without a token, `TokenRefused`,
        `Forbidden`; and what `KubeApi` raises."""
        if not token:
            raise PermissionDenied(
                f"no token came in the header {TOKEN}",
                mend=f"a ServiceAccount's token for the audience {AUDIENCE}",
                reason="Unauthenticated",
            )
        key = (hashlib.sha256(token.encode("utf-8", "replace")).hexdigest(), namespace, name)
        if self._allowed.get(key, 0.0) > time.monotonic():
            return ""
        async with self._asking:
            user = await self._who(token)
            await self._may(user, namespace, name)
        self._allowed[key] = time.monotonic() + REMEMBERED_SECONDS
        while len(self._allowed) > REMEMBERED:
            self._allowed.popitem(last=False)
        return user["username"]

    async def _who(self, token: str) -> dict:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        status = (await self._api.create("/apis/authentication.k8s.io/v1/tokenreviews", review)).get(
            "status", {}
        )
        # An authenticator that knows no audiences names none: then the token is not meant for us alone.
        if not status.get("authenticated") or AUDIENCE not in status.get("audiences", []):
            raise PermissionDenied(
                f"the API server does not know this token for the audience {AUDIENCE}"
                + (f": {status['error']}" if status.get("error") else ""),
                mend="request one that is not expired, for this audience",
                reason="TokenRefused",
            )
        return status["user"]

    async def _may(self, user: dict, namespace: str, name: str) -> None:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user["username"],
                "uid": user.get("uid", ""),
                "groups": user.get("groups", []),
                "extra": user.get("extra", {}),
                "resourceAttributes": {
                    "namespace": namespace,
                    "verb": "get",
                    "group": GROUP,
                    "resource": "swarmruns",
                    "name": name,
                },
            },
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        status = (await self._api.create(path, review)).get("status", {})
        if status.get("allowed") is not True:
            raise PermissionDenied(
                f"{user['username']} may not get swarmruns/{name} in namespace {namespace}",
                mend=f"bind a role to it that allows `get` on swarmruns.{GROUP} there",
                reason="Forbidden",
            )
