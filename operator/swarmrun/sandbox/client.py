"""The brain's side of a sandbox: `ports.Sandbox` over HTTP to the server inside, by socket or TCP."""

from __future__ import annotations

import asyncio
import json
import socket as _tcp
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import httpx

from swarmrun.errors import GitError, NotFound, SandboxLost, SandboxRefused, SwarmRunError, ToolRejected
from swarmrun.observability import calls
from swarmrun.ports import Checkpoint, ExecResult
from swarmrun.sandbox.sandboxd import PROTOCOL

HELD = 20.0
"""Seconds that one request asks the server to wait for a command; longer waits are several requests."""
PATIENCE = 30.0
"""Seconds without an answer, beyond what was asked for, after which a sandbox counts as lost (arbitrary)."""
BULK_PATIENCE = 600.0
"""The same for loading and checkpointing a whole repository."""
CONNECT = 10.0
"""Seconds to get a connection: the other side only accepts (arbitrary)."""

SAYING = 3.0
"""Seconds for lines of the log: nothing depends on them (arbitrary)."""

# A machine that is gone says nothing more. 15 s of silence of its kernel (not of its commands) are taken for that.
_NOTICE_DEATH = [(_tcp.SOL_SOCKET, _tcp.SO_KEEPALIVE, 1)]
if hasattr(_tcp, "TCP_USER_TIMEOUT"):
    _NOTICE_DEATH += [
        (_tcp.IPPROTO_TCP, _tcp.TCP_KEEPIDLE, 6),
        (_tcp.IPPROTO_TCP, _tcp.TCP_KEEPINTVL, 3),
        (_tcp.IPPROTO_TCP, _tcp.TCP_KEEPCNT, 3),
        (_tcp.IPPROTO_TCP, _tcp.TCP_USER_TIMEOUT, 15_000),
    ]


class SandboxClient:
    """One sandbox. Bound to the event loop of its first call; `close` ends its connections.

    `socket` is the path of a unix socket; without it `url` is an address like `http://10.0.0.7:8080`.
    `boot_id`, when known, must be the server's: another one means that the sandbox was restarted and what
    ran in it is gone. When empty, the first answer settles it.
    """

    def __init__(
        self, sandbox_id: str, token: str, *, socket: str = "", url: str = "http://sandbox", boot_id: str = ""
    ) -> None:
        self.id = sandbox_id
        self.boot_id = boot_id
        transport = httpx.AsyncHTTPTransport(
            # No TLS here: a socket, loopback, or a network that the cluster's policy closes.
            verify=False,
            uds=socket or None,
            socket_options=None if socket else _NOTICE_DEATH,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=None),
        )
        self._http = httpx.AsyncClient(
            transport=transport,
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def health(self, *, timeout_s: float = PATIENCE) -> dict[str, Any]:
        """Raises SandboxRefused when the server speaks another protocol, naming both."""
        answer, _ = await self._call("health", {}, patience=timeout_s)
        return answer

    # ------------------------------------------------------------ commands

    async def exec(
        self,
        command: str,
        *,
        key: str = "",
        workdir: str = ".",
        timeout_s: float = 120,
        env: dict[str, str] | None = None,
        background: bool = False,
        cap: int = 10_000,
    ) -> ExecResult:
        """Runs a shell command. After `timeout_s` it is not killed: `timed_out` is set, `process` names it."""
        ends = time.monotonic() + (0 if background else timeout_s)
        wait = 0.0 if background else min(timeout_s, HELD)
        answer, _ = await self._call(
            "exec",
            {
                "command": command,
                "workdir": workdir,
                "env": env or {},
                "wait_s": wait,
                "cap": cap,
                "key": key,
            },
            patience=wait + PATIENCE,
        )
        result = await self._until(answer, ends, cap)
        return replace(result, timed_out=result.exit_code is None and not background)

    async def poll(self, process: str, *, wait_s: float = 0, cap: int = 10_000) -> ExecResult:
        ends = time.monotonic() + wait_s
        return await self._until(await self._poll(process, wait_s, cap), ends, cap)

    async def kill(self, process: str) -> ExecResult:
        answer, _ = await self._call("kill", {"process": process})
        return _result(answer)

    async def _poll(self, process: str, wait_s: float, cap: int) -> dict[str, Any]:
        wait = max(0.0, min(wait_s, HELD))
        answer, _ = await self._call(
            "poll", {"process": process, "wait_s": wait, "cap": cap}, patience=wait + PATIENCE
        )
        return answer

    async def _until(self, answer: dict[str, Any], ends: float, cap: int) -> ExecResult:
        while answer["exit_code"] is None and (left := ends - time.monotonic()) > 0:
            answer = await self._poll(answer["process"], left, cap)
        return _result(answer)

    # ------------------------------------------------------------ files

    async def read(self, path: str, *, max_bytes: int = 2_000_000) -> bytes:
        _, content = await self._call("read", {"path": path, "max_bytes": max_bytes})
        return content

    async def write(self, path: str, content: bytes, *, key: str = "", mode: int | None = None) -> None:
        await self._call("write", {"path": path, "mode": mode, "key": key}, content)

    async def delete(self, path: str, *, key: str = "") -> None:
        await self._call("delete", {"path": path, "key": key})

    async def move(self, source: str, target: str, *, key: str = "") -> None:
        await self._call("move", {"source": source, "target": target, "key": key})

    async def list(
        self, path: str = ".", *, depth: int = 2, glob: str = "", max_entries: int = 500
    ) -> tuple[Sequence[str], int]:
        answer, _ = await self._call(
            "list", {"path": path, "depth": depth, "glob": glob, "max_entries": max_entries}
        )
        return answer["rows"], answer["total"]

    async def search(
        self, pattern: str, *, path: str = ".", glob: str = "", context: int = 0, max_matches: int = 50
    ) -> tuple[Sequence[str], int]:
        answer, _ = await self._call(
            "search",
            {"pattern": pattern, "path": path, "glob": glob, "context": context, "max_matches": max_matches},
        )
        return answer["rows"], answer["total"]

    # ------------------------------------------------------------ the whole tree

    async def load(self, bundle: bytes, *, commit: str, branch: str) -> None:
        await self._call("load", {"commit": commit, "branch": branch}, bundle, patience=BULK_PATIENCE)

    async def checkpoint(self, *, since: str, message: str = "") -> Checkpoint:
        answer, bundle = await self._call(
            "checkpoint", {"since": since, "message": message}, patience=BULK_PATIENCE
        )
        return Checkpoint(
            commit=answer["commit"], tree=answer["tree"], changed=answer["changed"], bundle=bundle
        )

    async def say(self, lines: Sequence[str]) -> bool:
        answer, _ = await self._call("say", {"lines": list(lines)}, patience=SAYING)
        return answer["said"]

    # ------------------------------------------------------------ the wire

    async def _call(
        self, op: str, arguments: dict[str, Any], payload: bytes = b"", *, patience: float = PATIENCE
    ) -> tuple[dict[str, Any], bytes]:
        if self._http.is_closed:
            raise SandboxLost(f"sandbox {self.id} was released")
        body = json.dumps(arguments).encode() + b"\n" + payload
        with calls.traced(op, self.id) as call:
            try:
                async with asyncio.timeout(patience):
                    limits = httpx.Timeout(None, connect=CONNECT)
                    response = await self._http.post(
                        f"/v1/{op}", content=body, timeout=limits, headers=call.headers
                    )
            except TimeoutError as exc:
                raise SandboxLost(f"sandbox {self.id} did not answer {op} within {patience:.0f} s") from exc
            except httpx.HTTPError as exc:
                raise SandboxLost(f"sandbox {self.id} is gone: {type(exc).__name__} at {op}") from exc
            self._check(response, op)
            call.answered(response.headers.get("server-timing", ""))
        head, _, rest = response.content.partition(b"\n")
        try:
            answer = json.loads(head)
        except ValueError as exc:
            raise SandboxLost(f"sandbox {self.id} answered {op} with something else than JSON") from exc
        if "error" in answer:
            self._raise(op, answer["error"])
        return answer, rest

    def _check(self, response: httpx.Response, op: str) -> None:
        """What answered must be our server, of our protocol, and the same one as before."""
        protocol = response.headers.get("x-sandboxd-protocol", "")
        if not protocol:
            raise SandboxLost(f"what answers {op} in place of sandbox {self.id} is no sandbox server")
        if protocol != str(PROTOCOL):
            raise SandboxRefused(
                f"sandbox {self.id} speaks protocol {protocol}, this version speaks {PROTOCOL}",
                mend="use a sandbox image of the same version",
            )
        if response.status_code == 401:
            raise SandboxLost(f"sandbox {self.id} does not know our token: it is another one")
        boot_id = response.headers.get("x-boot-id", "")
        if self.boot_id and boot_id != self.boot_id:
            raise SandboxLost(f"sandbox {self.id} was restarted: what ran in it is gone")
        self.boot_id = boot_id

    def _raise(self, op: str, error: dict[str, Any]) -> NoReturn:
        code, message = str(error.get("code", "")), str(error.get("message", ""))
        whole = op in ("load", "checkpoint")
        kinds: dict[str, type[SwarmRunError]] = {
            "rejected": ToolRejected,
            "not-found": NotFound,
            "git": GitError,
            "interrupted": SandboxLost,
            "unknown-op": SandboxRefused,
        }
        raise kinds.get(code, GitError if whole else ToolRejected)(message or f"{op} failed ({code})")


def _result(answer: dict[str, Any]) -> ExecResult:
    ended = answer["exit_code"] is not None
    return ExecResult(
        exit_code=answer["exit_code"],
        stdout=answer["stdout"],
        omitted=answer["omitted"],
        output_file=answer["output_file"],
        seconds=answer["seconds"],
        process="" if ended else answer["process"],
    )
