"""Sandboxes as containers of docker or podman on one's own machine: the image that clusters use, the same server.

Built on the process provider, from which directories, markers, tokens and the rules of life come: a container lives
as long as this process, whose end closes the pipe that is the server's standard input; `--rm` takes the rest away.
The volume is a directory of this machine; the server is bound into the container, so an image needs only Python
>= 3.9 and git. It listens on a unix socket in a bound directory: there is no network to reach it by.
"""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from swarmrun.errors import SandboxRefused
from swarmrun.ports import SandboxSpec
from swarmrun.sandbox import bubblewrap
from swarmrun.sandbox.process import SERVER, ProcessProvider
from swarmrun.sandbox.tokens import token, token_sha256

IMAGE = "swarmrun-sandbox"
"""Built from sandbox-image/Dockerfile."""
STOP_SECONDS = 30
"""For the engine to remove one container (arbitrary)."""

_FIRST_UID = 100_000
_ULIMIT = 16_384


def engine(named: str = "") -> list[str]:
    """The command line's beginning: `named` (may hold options), else podman, else docker.

    Raises SandboxRefused when there is none.
    """
    words = shlex.split(named)
    if not words:
        words = [name for name in ("podman", "docker") if shutil.which(name)][:1]
    if not words or shutil.which(words[0]) is None:
        raise SandboxRefused(
            f"{words[0] if words else 'neither podman nor docker'} is not installed",
            mend="install podman or docker, or name the command in SWARMRUN_CONTAINER_ENGINE",
            reason="NoContainerEngine",
        )
    return words


class ContainerProvider(ProcessProvider):
    """`ports.SandboxProvider` by containers. `command` is `engine()`'s; `image` stands where a spec names none."""

    def __init__(self, root: Path, master_key: bytes, *, command: Sequence[str], image: str = IMAGE) -> None:
        super().__init__(root, master_key, bwrap=bubblewrap.Usable("", "containers are used"))
        self.isolation = "container"
        self._engine = list(command)
        self._image = image
        self._found: set[str] = set()

    def preflight(self) -> None:
        """Raises SandboxRefused when containers cannot be reached from this machine's side."""
        if sys.platform != "linux":
            raise SandboxRefused(
                "containers run in a virtual machine here, whose sockets this machine cannot reach",
                mend="use a cluster, or Linux",
                reason="NoContainerEngine",
            )

    def _spawn(self, spec: SandboxSpec, directory: Path) -> tuple[subprocess.Popen[bytes], int, str]:
        image = spec.image or self._image
        self._need(image)
        self._mark_started(spec, directory)
        uid = self._give(spec.id, directory)
        theirs, ours = os.pipe()
        try:
            with open(directory / "server.log", "wb") as log:
                process = subprocess.Popen(
                    [*self._engine, *self._arguments(spec, directory, image, uid)],
                    stdin=theirs,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=directory,
                    start_new_session=True,
                )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return process, ours, ""

    def _arguments(self, spec: SandboxSpec, directory: Path, image: str, uid: int) -> list[str]:
        env = {
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            **spec.env,
            "HOME": "/sandbox/home",
            "TMPDIR": "/tmp",
            "USER": "agent",
            "LOGNAME": "agent",
            "SWARMRUN_SANDBOX": self._mark(spec.id),
            "SWARMRUN_TOKEN_SHA256": token_sha256(token(self._master_key, spec.id)),
        }
        line = ["run", "--rm", "--interactive", f"--name={self._name(spec.id)}", "--hostname=sandbox"]
        line += ["--label=swarmrun.dev/sandbox", "--pull=never"]
        line += [] if spec.egress else ["--network=none"]
        line += ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        # Where SELinux is on, bound directories would need other labels than the user's own files have.
        line += ["--security-opt=label=disable", f"--user={uid}:{uid}"]
        if os.geteuid() != 0 and Path(self._engine[0]).name == "podman":
            line.append("--userns=keep-id")
        line += [f"--pids-limit={spec.pids}", f"--memory={spec.memory_mb}m", f"--cpus={spec.cpu}"]
        # podman asks for more than a machine's hard limits when nothing is said.
        line += [f"--ulimit={name}={cap}:{cap}" for name, cap in _ulimits()]
        for source, target in (
            (directory / "volume", "/sandbox"),
            (directory / "volume" / "tmp", "/tmp"),
            (directory / "server", "/run/sandboxd"),
            (SERVER, "/opt/swarmrun/sandboxd,readonly"),
        ):
            line.append(f"--mount=type=bind,source={source},target={target}")
        line += [f"--env={name}={value}" for name, value in env.items()]
        line += ["--workdir=/sandbox", "--entrypoint=python3", image, "-I", "/opt/swarmrun/sandboxd"]
        where = [
            "--volume=/sandbox",
            "--state=/run/sandboxd",
            "--tmp=/tmp",
            "--listen=unix:/run/sandboxd/sock",
        ]
        return [*line, *where, "--lifeline=0"]

    def _give(self, sandbox_id: str, directory: Path) -> int:
        """The uid inside. As root: one of the sandbox's own, to which its directories are given."""
        if os.geteuid() != 0:
            return os.getuid()
        uid = _FIRST_UID + int(self._mark(sandbox_id), 16) % 1_000_000_000
        # All of it: a copy of another sandbox's volume has that one's owner.
        places = [str(directory / "server"), str(directory / "volume")]
        subprocess.run(["chown", "-R", "-h", f"{uid}:{uid}", *places], check=True)
        return uid

    def _need(self, image: str) -> None:
        """Raises SandboxRefused `ImageNotPresent`: nothing is pulled behind the user's back."""
        if image in self._found:
            return
        looked = subprocess.run([*self._engine, "image", "inspect", image], capture_output=True, text=True)
        if looked.returncode != 0:
            said = looked.stderr.strip().splitlines()[-1:] or [""]
            raise SandboxRefused(
                f"image {image} cannot be used: {said[0]}",
                mend=f"{self._engine[0]} build -f sandbox-image/Dockerfile -t {IMAGE} . "
                f"(or {self._engine[0]} pull {image})",
                reason="ImageNotPresent",
            )
        self._found.add(image)

    def _end(self, sandbox_id: str) -> None:
        # The client's death ends the server by its pipe; a container that hangs is removed all the same.
        subprocess.run(
            [*self._engine, "rm", "--force", self._name(sandbox_id)],
            capture_output=True,
            timeout=STOP_SECONDS,
        )

    def _name(self, sandbox_id: str) -> str:
        return f"swarmrun-{self._mark(sandbox_id)}"


def _ulimits() -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for name, what in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(what)[1]
        found.append((name, _ULIMIT if hard == resource.RLIM_INFINITY else min(_ULIMIT, hard)))
    return found
