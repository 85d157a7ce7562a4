"""What the brain needs of the world, as protocols. Rooms below implement them, activities join them.

All sandbox, model and pull-request calls are coroutines: activities run them on one shared event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from swarmrun.errors import PermissionDenied

# ---------------------------------------------------------------- sandboxes


@dataclass(frozen=True)
class EgressRule:
    """A granted destination: an address range and TCP ports (none named: all)."""

    cidr: str
    ports: tuple[int, ...] = ()


@dataclass(frozen=True)
class SandboxSpec:
    """What a sandbox is made of. `id` is unique per (run, task, attempt, generation): `<run>-<task>-a1-g1`."""

    id: str
    run: str
    """The run's instance id: everything of one run is released together."""
    image: str = ""
    """Container image; empty means the provider's default. The process provider has no images."""
    env: dict[str, str] = field(default_factory=dict[str, str])
    egress: bool = False
    """Whether the sandbox may reach the network at all."""
    dns: bool = False
    """Whether names may be resolved. Pods only, as is `allow`: elsewhere `egress` decides on both."""
    allow: tuple[EgressRule, ...] = ()
    """Destinations besides `egress`."""
    cpu: float = 1.0
    """Cores."""
    memory_mb: int = 2048
    disk_mb: int = 10240
    pids: int = 512
    clone_of: str = ""
    """Id of a sandbox whose volume (work tree, caches) this one starts from; a provider may be unable to."""


@dataclass(frozen=True)
class SandboxState:
    """What a provider knows of a sandbox now. `phase` Lost means: replace it under a new id."""

    phase: Literal["Starting", "Ready", "Lost", "Refused"]
    reason: str = ""
    message: str = ""
    cloned: bool = False
    """True when the volume was taken from `SandboxSpec.clone_of`."""


@dataclass(frozen=True)
class ExecResult:
    """One command. `exit_code` is None while it still runs (then `process` names it)."""

    exit_code: int | None
    stdout: str
    """Head and tail of the merged output, capped, with a line `[N bytes omitted: see FILE]` between them."""
    omitted: int
    """Bytes left out between head and tail."""
    output_file: str
    """Path inside the sandbox of the whole output, empty when nothing was left out."""
    seconds: float
    process: str = ""
    timed_out: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """The work tree as a commit on a hidden ref, and the bundle that carries it."""

    commit: str
    tree: str
    changed: bool
    """False when the tree equals that of `since` (no bundle then)."""
    bundle: bytes


class Sandbox(Protocol):
    """A handle on a running sandbox. Every call may raise SandboxLost.

    `key` makes a call idempotent: the sandbox keeps a journal and answers a repeated key from it.
    Paths are relative to the repository's root; a path that leaves it (also through a symlink) raises
    ToolRejected.
    """

    id: str

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
        """Runs a shell command. After `timeout_s` seconds it is not killed: the result then has `timed_out`
        set, no exit code, and names the `process` to poll or kill. `background` returns at once."""
        ...

    async def poll(self, process: str, *, wait_s: float = 0, cap: int = 10_000) -> ExecResult: ...

    async def kill(self, process: str) -> ExecResult: ...

    async def read(self, path: str, *, max_bytes: int = 2_000_000) -> bytes:
        """A file's bytes. Raises NotFound (message names similar paths)."""
        ...

    async def write(self, path: str, content: bytes, *, key: str = "", mode: int | None = None) -> None:
        """Creates or replaces a file atomically, parents included."""
        ...

    async def delete(self, path: str, *, key: str = "") -> None: ...

    async def move(self, source: str, target: str, *, key: str = "") -> None: ...

    async def list(
        self, path: str = ".", *, depth: int = 2, glob: str = "", max_entries: int = 500
    ) -> tuple[Sequence[str], int]:
        """Entries (directories end in `/`), git-ignored ones left out, and how many there are in all."""
        ...

    async def search(
        self, pattern: str, *, path: str = ".", glob: str = "", context: int = 0, max_matches: int = 50
    ) -> tuple[Sequence[str], int]:
        """`path:line: text` rows and how many there are in all. A bad regular expression raises ToolRejected."""
        ...

    async def load(self, bundle: bytes, *, commit: str, branch: str) -> None:
        """Takes a git bundle in and makes the work tree equal `commit` on `branch` (untracked, not ignored
        files are removed; ignored ones stay). Loading what is there already does nothing."""
        ...

    async def checkpoint(self, *, since: str, message: str = "") -> Checkpoint:
        """Commits the whole work tree (ignored files aside) to a hidden ref; the bundle needs `since` to be
        known by the receiver. Neither the branch nor the index that the agent sees changes."""
        ...

    async def say(self, lines: Sequence[str]) -> bool:
        """Prints lines on the sandbox's standard output, for people. False when nobody takes them. A server of an
        older version raises SandboxRefused."""
        ...


class SandboxProvider(Protocol):
    """Where sandboxes are started: local process, container, Pod."""

    isolation: str
    """For the status: `bubblewrap`, `none`, `container`, `pod`."""
    logged: bool
    """Whether people can read what its sandboxes print."""

    async def ensure(self, spec: SandboxSpec) -> SandboxState:
        """Idempotent. Starts it when it has never been, never waits long, never restarts a lost one."""
        ...

    async def connect(self, sandbox_id: str) -> Sandbox:
        """A handle on a Ready sandbox; raises SandboxLost."""
        ...

    async def release(self, sandbox_id: str) -> None:
        """Ends it and removes its volume. Idempotent."""
        ...

    async def release_run(self, run: str) -> None:
        """Ends everything of one run. Idempotent."""
        ...


# ---------------------------------------------------------------- models


@dataclass(frozen=True)
class Profile:
    """How one model wants to be talked to (see models/profiles.py for the table and the reasons)."""

    model: str
    api: Literal["responses", "chat"] = "chat"
    reasoning_effort: str = ""
    """Empty: not sent."""
    reasoning_replay: Literal["none", "encrypted", "reasoning_content", "reasoning_details"] = "none"
    temperature: float | None = None
    """None: not sent."""
    json_schema: Literal["strict", "object", "none"] = "object"
    parallel_tools: bool = True
    edit_tool: Literal["edit_file", "apply_patch"] = "edit_file"
    context_window: int = 128_000
    max_output: int = 8_192
    price_input: str | None = None
    """USD per million tokens, as a decimal string; None: unknown."""
    price_cached: str | None = None
    price_cache_write: str | None = None
    price_output: str | None = None


@dataclass(frozen=True)
class CallKey:
    """Who asks. Travels as `x-swarmrun-*` headers; with `call` it is the key of everything stored."""

    run: str
    role: str
    task: str
    attempt: int
    turn: int
    """1-based."""

    def path(self) -> str:
        return f"turns/{self.role}/{self.task}/{self.attempt}/{self.turn:04d}"


@dataclass(frozen=True)
class ToolSpec:
    name: str
    description: str
    parameters: dict[str, Any]
    """JSON schema of the arguments."""


@dataclass(frozen=True)
class ModelRequest:
    key: CallKey
    instructions: str
    messages: Sequence[dict[str, Any]]
    """Agent Framework messages, as `Message.to_dict()` gives them."""
    tools: Sequence[ToolSpec] = ()
    response_schema: dict[str, Any] | None = None
    """JSON schema the answer must have; how it is asked for is the profile's `json_schema`."""
    max_output: int | None = None


@dataclass(frozen=True)
class ToolCall:
    """One call out of a reply. `problem` is set when it cannot run (unknown tool, broken JSON …)."""

    index: int
    call_id: str
    name: str
    arguments: dict[str, Any]
    raw: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Usage:
    """Tokens. `input` includes `cached` and `cache_write`; `output` includes `reasoning`."""

    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.cached + other.cached,
            self.cache_write + other.cache_write,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )

    @property
    def total(self) -> int:
        return self.input + self.output


@dataclass(frozen=True)
class ModelReply:
    """A whole, finished answer. Whatever was cut off, filtered or empty raised instead."""

    messages: Sequence[dict[str, Any]]
    text: str
    calls: Sequence[ToolCall]
    usage: Usage
    finish_reason: str
    model: str
    value: Any = None
    """The parsed JSON when `response_schema` was given."""
    notes: Sequence[str] = ()
    """What had to be mended, e.g. `tool call taken from text`."""


class ModelClient(Protocol):
    """One tier's model. Raises RateLimited, ModelUnavailable, ModelRefused, PermissionDenied, BadModelOutput."""

    profile: Profile

    async def turn(self, request: ModelRequest) -> ModelReply: ...

    async def close(self) -> None: ...


# ---------------------------------------------------------------- storage and remotes


class ArtifactStore(Protocol):
    """Large things under a key, outside the engine's histories. Keys are `/`-separated and safe as paths."""

    def put(self, key: str, data: bytes) -> str:
        """Stores (replacing) and returns the key. Raises StorageUnavailable."""
        ...

    def put_new(self, key: str, data: bytes) -> bytes:
        """Stores unless the key exists; returns what stands there now: the first writer wins."""
        ...

    def get(self, key: str) -> bytes:
        """Raises NotFound."""
        ...

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str) -> Sequence[str]:
        """Keys under a prefix, sorted."""
        ...

    def delete(self, prefix: str) -> None: ...


@dataclass(frozen=True)
class PullRequest:
    number: int
    url: str
    created: bool
    """False when one existed and was updated."""


class PullRequests(Protocol):
    """The pull requests of one repository on its host. Raises PublishRefused, PermissionDenied, RemoteUnavailable."""

    async def open_or_update(self, *, head: str, base: str, title: str, body: str) -> PullRequest: ...


@dataclass(frozen=True)
class RemoteState:
    """What a remote is before a run starts."""

    base_commit: str
    """Tip of the base branch; the fixed first commit when the remote is empty."""
    branch: str
    """The base branch: the one asked for, else the remote's default."""
    default_branch: str
    """Empty when the remote names none."""
    empty: bool
    """True when the remote has no branch at all."""
    push: str
    """`ok`, or why pushing is refused, in the remote's words."""

    def require_push(self) -> None:
        """Raises PermissionDenied when pushing was refused."""
        if self.push != "ok":
            raise PermissionDenied(
                f"no permission to push: {self.push}",
                mend="give the credential write access to the repository",
                reason="PushDenied",
            )


@dataclass(frozen=True)
class Published:
    branch: str
    """Where the commit is now."""
    commit: str
    beside: bool
    """True when `branch` is not the one asked for, because that one holds somebody else's work."""
    already: bool
    """True when it was there before this call."""


class RepositoryAccess(Protocol):
    """One run's way between its bare repository and the remote: direct on one machine, a git Pod in a cluster.

    Called from worker threads. Every call may raise RemoteUnavailable (also while the way is being made: asked
    again), PermissionDenied, NotFound, GitError.
    """

    def preflight(self, branch: str) -> RemoteState:
        """`branch` empty: the remote's default."""
        ...

    def check_pull_requests(self) -> None:
        """Raises what would keep a pull request from being opened, as far as it shows beforehand."""
        ...

    def find_published(self, branch: str, spec_hash: str) -> Published:
        """Where a run of this spec was published before. Raises NotFound."""
        ...

    def fetch(self, commit: str, *, branch: str) -> None:
        """Brings the commit with its history into the run's repository. Idempotent."""
        ...

    def publish(self, commit: str, *, branch: str, base_branch: str = "", base_commit: str = "") -> Published:
        """Pushes a commit that the run's repository holds, never over somebody else's work. Idempotent.

        `base_branch` is made in an empty remote. `base_commit` is one that the remote has (less is sent then).
        Raises PublishRefused too.
        """
        ...

    def open_pull_request(self, *, head: str, base: str, title: str, body: str) -> PullRequest:
        """Opens it, or updates the one that is open. Raises PublishRefused too."""
        ...
