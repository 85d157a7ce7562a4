"""What `swarmrun doctor` says about this machine's ability to run agents in sandboxes."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from swarmrun.findings import Finding
from swarmrun.sandbox import bubblewrap, cgroups

MIN_GIT = (2, 38)
"""`git merge-tree --write-tree` appeared in 2.38."""


def check(*, proc: Path = Path("/proc")) -> list[Finding]:
    """Looks at the machine anew each time; starts bubblewrap and makes (and removes) a cgroup."""
    return [_git(), _bubblewrap(), _user_namespaces(proc), _limits()]


def _git() -> Finding:
    program = shutil.which("git")
    if program is None:
        return Finding("git", "problem", "git is not installed", "install git 2.38 or newer")
    said = subprocess.run([program, "version"], capture_output=True, text=True).stdout.strip()
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < MIN_GIT:
        return Finding("git", "problem", f"{said} is too old", "install git 2.38 or newer")
    return Finding("git", "ok", said)


def _bubblewrap() -> Finding:
    bubblewrap.usable.cache_clear()
    found = bubblewrap.usable()
    if not found.program:
        return Finding(
            "bubblewrap",
            "problem",
            found.problem,
            "install it (Debian, Ubuntu, Fedora: package `bubblewrap`); "
            "--unsafe-no-sandbox runs agents' commands as you",
        )
    if found.problem:
        mend = "allow unprivileged user namespaces (see the next line), or run as root"
        if sys.platform != "linux":
            mend = "bubblewrap needs Linux"
        return Finding("bubblewrap", "problem", found.problem, mend)
    if not found.disables_userns:
        return Finding(
            "bubblewrap",
            "warning",
            "works, but agents can make user namespaces of their own",
            "install bubblewrap 0.8 or newer",
        )
    return Finding("bubblewrap", "ok", "works: agents get namespaces of their own and no network")


def _user_namespaces(proc: Path) -> Finding:
    """The three switches by which distributions forbid them."""
    switches = (
        ("sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
        ("sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "add an AppArmor profile that allows `userns` for /usr/bin/bwrap, "
            "or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    )
    for name, forbidding, mend in switches:
        with contextlib.suppress(OSError):
            if (proc / name).read_text().strip() == forbidding and os.geteuid() != 0:
                return Finding("user namespaces", "warning", f"restricted by {name}={forbidding}", mend)
    return Finding("user namespaces", "ok", "not restricted")


def _limits() -> Finding:
    group = cgroups.create(f"swarmrun-probe-{secrets.token_hex(4)}", pids=32, memory_mb=64)
    if group is None:
        return Finding(
            "limits",
            "warning",
            "no cgroup can be made here: processes and memory are capped by RLIMITs only",
            "run under systemd with a user session, or with a delegated cgroup",
        )
    group.remove()
    way = "systemd-run" if not group.directories else str(group.directories[0].parent)
    return Finding("limits", "ok", f"processes and memory are capped by cgroup ({way})")
