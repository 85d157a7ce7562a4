"""Payloads too large for a message live in the artifact store; the engine carries a short token.

The managed service takes 1 MiB a message. Payloads lie under `payloads/<root instance>/`, so everything of one run
goes with `clean`; sub-orchestrations' ids begin with their run's (`<run>:<task>:a1`). A token ends with the
payload's preview.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re

from durabletask.payload import LargePayloadStorageOptions, PayloadStore

from swarmrun.errors import NotFound
from swarmrun.observability.previews import KEY, preview
from swarmrun.ports import ArtifactStore

_TOKEN = "swarmrun-payload:v1:"

THRESHOLD_BYTES = 256 * 1024
"""The SDKs' own default; well below the service's limit, with room for what else is in a message."""

_MAX_BYTES = 1 << 30
"""A result beyond this would be refused and heard of by nobody; arbitrary, far beyond anything sane."""


class ArtifactPayloads(PayloadStore):
    """Content-addressed within a run: a repeated upload writes the same key."""

    def __init__(self, store: ArtifactStore, *, threshold_bytes: int = THRESHOLD_BYTES) -> None:
        self._store = store
        self._options = LargePayloadStorageOptions(
            threshold_bytes=threshold_bytes, max_stored_payload_bytes=_MAX_BYTES
        )

    @property
    def options(self) -> LargePayloadStorageOptions:
        return self._options

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        """Raises StorageUnavailable."""
        key = f"{prefix(instance_id or '')}{hashlib.sha256(data).hexdigest()}"
        self._store.put(key, gzip.compress(data, compresslevel=1, mtime=0))
        return f"{_TOKEN}{key}\n{_preview(data)}".rstrip()

    def download(self, token: str) -> bytes:
        """Raises NotFound for a token that is not one of ours or whose payload is gone."""
        if not self.is_known_token(token):
            raise NotFound(f"not a payload token: {token[:80]!r}")
        return gzip.decompress(self._store.get(token.removeprefix(_TOKEN).partition("\n")[0]))

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        return await asyncio.to_thread(self.upload, data, instance_id=instance_id)

    async def download_async(self, token: str) -> bytes:
        return await asyncio.to_thread(self.download, token)

    def is_known_token(self, value: str) -> bool:
        return value.startswith(_TOKEN + "payloads/")

    def clean(self, run: str) -> None:
        """Removes every payload of a run, given by its instance id. The SDK never deletes any."""
        self._store.delete(prefix(run))


def _preview(data: bytes) -> str:
    """What a history still tells of a payload that is elsewhere."""
    try:
        value = json.loads(data)
    except ValueError:
        return ""
    return preview(str(value.get(KEY, ""))) if isinstance(value, dict) else ""


def prefix(instance_id: str) -> str:
    """Where payloads of an instance and its sub-orchestrations lie; ends in `/`."""
    root = re.split(r"[:/]", instance_id, maxsplit=1)[0]
    return f"payloads/{re.sub(r'[^A-Za-z0-9._-]', '_', root) or '_'}/"
