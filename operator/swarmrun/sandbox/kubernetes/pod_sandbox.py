"""The client of a sandbox that is a Pod: what stands on the Pod decides about what its server says."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from swarmrun.errors import GitError, NotFound, SandboxLost, ToolRejected
from swarmrun.sandbox.answers import Answer, Nonsense
from swarmrun.sandbox.client import SandboxClient

_WHOLE = ("load", "checkpoint")
"""Operations of the brain alone: what they say of all files must not be said of a volume that is being taken away."""

_UNSEEN = ("health", "say", "seal")
"""Operations that say nothing of files."""


class Witness(Protocol):
    """Who knows the Pod."""

    async def why_lost(self, sandbox_id: str, exc: SandboxLost) -> SandboxLost:
        """The cause that stands on the Pod."""
        ...

    async def believed(self, sandbox_id: str, *, refused: bool, whole: bool = False) -> None:
        """Raises SandboxLost where the Pod goes away under its server."""
        ...


class PodSandbox(SandboxClient):
    """When its sandbox is lost, it tells the cause that stands on the Pod."""

    def __init__(self, witness: Witness, sandbox_id: str, secret: str, address: str, boot_id: str) -> None:
        super().__init__(sandbox_id, secret, url=f"http://{address}", boot_id=boot_id)
        self.address = address
        self._witness = witness
        self._loop = asyncio.get_running_loop()
        self._closed = False

    def usable(self) -> bool:
        """On this event loop, and not closed."""
        return not self._closed and self._loop is asyncio.get_running_loop()

    async def close(self) -> None:
        self._closed = True
        await super().close()

    async def _call(
        self, op: str, arguments: dict[str, Any], payload: bytes = b"", **more: Any
    ) -> tuple[Answer, bytes]:
        try:
            answer, rest = await super()._call(op, arguments, payload, **more)
        except SandboxLost as exc:
            if self._closed or op in _UNSEEN[:2] or isinstance(exc, Nonsense):
                raise
            raise await self._witness.why_lost(self.id, exc) from exc
        except (ToolRejected, NotFound, GitError):
            await self._witness.believed(self.id, refused=True, whole=op in _WHOLE)
            raise
        if op not in _UNSEEN:
            failed = op in ("exec", "poll") and bool(answer.exit_code())
            await self._witness.believed(self.id, refused=failed, whole=op in _WHOLE)
        return answer, rest
