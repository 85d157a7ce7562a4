"""The bubblewrap command line of a sandbox: what it sees of the machine, and that it sees nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from swarmrun.sandbox.toolchains import SYSTEM

_ETC = (
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl",
    "ca-certificates",
    "pki",
    "crypto-policies",
    "localtime",
    "mime.types",
    "os-release",
    "protocols",
    "services",
)
"""Of /etc: what dynamic linking, TLS and time zones need. Nothing that names users or holds keys
(/etc/ssl/private is readable by root alone and is covered below)."""

UID = 1000


@dataclass(frozen=True)
class Usable:
    """Whether bubblewrap starts here; if not, `problem` is what it said."""

    program: str
    problem: str = ""
    disables_userns: bool = False
    """`--disable-userns` exists from bubblewrap 0.8 on."""


@lru_cache(maxsize=1)
def usable() -> Usable:
    """Starts `true` once with the namespaces that a sandbox takes."""
    program = shutil.which("bwrap")
    if program is None:
        return Usable("", "bubblewrap (bwrap) is not installed")
    try:
        options = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=20)
        disables = "--disable-userns" in options.stdout + options.stderr
        trial = subprocess.run(
            [program, *_namespaces(disables), *_system(), "--", "/bin/true"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return Usable(program, f"bubblewrap does not start: {exc}")
    if trial.returncode != 0:
        return Usable(program, f"bubblewrap does not start: {trial.stderr.strip() or trial.returncode}")
    return Usable(program, disables_userns=disables)


def _namespaces(disable_userns: bool) -> list[str]:
    return [
        "--unshare-all",
        "--unshare-user",
        *(["--disable-userns"] if disable_userns else []),
        "--die-with-parent",
        "--new-session",
        "--as-pid-1",
        "--clearenv",
        *("--cap-drop", "ALL"),
        *("--uid", str(UID), "--gid", str(UID)),
        *("--hostname", "sandbox"),
    ]


def _system() -> list[str]:
    line: list[str] = []
    for root in SYSTEM:
        if os.path.islink(root):
            line += ["--symlink", os.readlink(root), root]
        elif os.path.isdir(root):
            line += ["--ro-bind", root, root]
    return [*line, "--proc", "/proc", "--dev", "/dev"]


def write_etc(directory: Path) -> None:
    """The files of /etc that are the sandbox's own: one user, and `localhost`."""
    directory.mkdir(exist_ok=True)
    (directory / "passwd").write_text(
        f"root:x:0:0:root:/root:/bin/sh\nagent:x:{UID}:{UID}:agent:/sandbox/home:/bin/bash\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    )
    (directory / "group").write_text(f"root:x:0:\nagent:x:{UID}:\nnogroup:x:65534:\n")
    (directory / "hosts").write_text("127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost\n")
    (directory / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")


def command(
    bwrap: Usable,
    *,
    volume: Path,
    state: Path,
    etc: Path,
    server: Path,
    roots: tuple[Path, ...],
    env: dict[str, str],
    egress: bool,
) -> list[str]:
    """Everything before the program. Inside: /sandbox (the volume), /tmp, /run/sandboxd, /opt/swarmrun."""
    line = [bwrap.program, *_namespaces(bwrap.disables_userns)]
    if egress:
        line.append("--share-net")
    line += _system()
    for name in _ETC:
        line += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    if os.path.isdir("/etc/ssl/private"):
        line += ["--tmpfs", "/etc/ssl/private"]
    for name in ("passwd", "group", "hosts", "nsswitch.conf"):
        line += ["--ro-bind", str(etc / name), f"/etc/{name}"]
    if egress and os.path.exists("/etc/resolv.conf"):
        line += ["--ro-bind", os.path.realpath("/etc/resolv.conf"), "/etc/resolv.conf"]
    line += ["--bind", str(volume / "tmp"), "/tmp"]
    for root in roots:
        line += ["--ro-bind", str(root), str(root)]
    line += ["--bind", str(volume), "/sandbox", "--bind", str(state), "/run/sandboxd"]
    line += ["--ro-bind", str(server), "/opt/swarmrun/sandboxd", "--chdir", "/sandbox"]
    for name, value in env.items():
        line += ["--setenv", name, value]
    return [*line, "--"]
