"""How the brain proves itself to a model's server: an environment variable, a key file, Entra, or not at all.

The secret is fetched anew for every call, so that a rotated key or token is used at once, and is never kept
in a snapshot, a history or a log.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from swarmrun.api.swarmclass import Auth, ModelTier
from swarmrun.errors import InvalidResource, PermissionDenied

KeySource = Callable[[], Awaitable[str]]
"""Gives the bearer key or token for one call. Raises PermissionDenied."""

ENTRA_SCOPE = "https://cognitiveservices.azure.com/.default"
"""The scope commonly used for Azure OpenAI; not yet tried against a real resource."""

_DEFAULT_ENV = {"azure-openai": "AZURE_OPENAI_API_KEY"}


def key_source(tier: ModelTier) -> KeySource | None:
    """None: nothing is sent. Raises InvalidResource when Entra is asked for and its library is missing."""
    auth = tier.auth
    if auth.type == "none":
        return None
    if auth.type == "entra":
        return _entra()
    if auth.file:
        return _from_file(auth)
    default = _DEFAULT_ENV.get(tier.provider, "OPENAI_API_KEY")
    # A server on one's own machine rarely wants a key; where it does, the 401 says so and names the mend.
    optional = tier.provider == "compatible" and not auth.env
    return _from_env(auth.env or default, optional=optional)


def _from_env(name: str, *, optional: bool) -> KeySource:
    async def key() -> str:
        value = os.environ.get(name, "").strip()
        if not value and not optional:
            raise PermissionDenied(
                f"no model key: environment variable {name} is empty",
                mend=f"export {name}=…, or name another variable in the class (auth.env), or auth.type: none",
            )
        return value

    return key


def _from_file(auth: Auth) -> KeySource:
    async def key() -> str:
        try:
            value = Path(auth.file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise PermissionDenied(
                f"no model key: {auth.file} cannot be read: {exc}", mend="mount the Secret, or mend auth.file"
            ) from exc
        if not value:
            raise PermissionDenied(f"no model key: {auth.file} is empty", mend="put the key into the file")
        return value

    return key


def _entra() -> KeySource:
    try:
        from azure.identity import DefaultAzureCredential, get_bearer_token_provider
    except ImportError as exc:
        raise InvalidResource(
            "auth.type entra needs azure-identity, which is not installed",
            field="auth.type",
            mend="pip install 'swarmrun[azure]'",
        ) from exc
    provider: Any = None

    async def token() -> str:
        nonlocal provider
        try:
            # The synchronous credential in a thread: its asynchronous twin needs a second HTTP stack.
            # It caches the token itself and refreshes it before it ends.
            if provider is None:
                provider = await asyncio.to_thread(
                    lambda: get_bearer_token_provider(DefaultAzureCredential(), ENTRA_SCOPE)
                )
            return await asyncio.to_thread(provider)
        except Exception as exc:
            raise PermissionDenied(
                f"Entra gave no token for {ENTRA_SCOPE}: {str(exc).splitlines()[0] if str(exc) else exc!r}",
                mend="az login, or workload identity for the brain's service account",
            ) from exc

    return token
