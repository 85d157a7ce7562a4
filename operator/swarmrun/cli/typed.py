"""Commands that are shown are commands that can be typed as they stand.

Everywhere in the project a command is written `swarmrun COMMAND …`. When it is printed, `swarmrun` becomes what
this process was called as, with the home and the namespace that were given to it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

COMMANDS = (
    *("run", "plan", "list", "describe", "get", "logs", "diff", "merge", "cancel", "suspend", "resume"),
    *("approve", "reject", "delete", "doctor", "cassette", "mergetool", "verify", "--help"),
    *("tree", "rerun", "wait"),
)
_COMMAND = re.compile(rf"\bswarmrun (?=(?:{'|'.join(COMMANDS)})(?![\w-]))")

_given = {"home": "", "namespace": "", "program": ""}
"""Of this process's command line, so there is one."""


def remember(home: str, namespace: str, program: str = "") -> None:
    """What the reader has to say again; empty where it was left to the default. `program`: what stands for
    `swarmrun` where that is not how it was called (`kubectl swarm`, with its options)."""
    _given.update(home=home, namespace="" if namespace == "default" else namespace, program=program)


def typed(text: str) -> str:
    """`swarmrun diff demo` → `.venv/bin/swarmrun --home build/home diff demo`, where it was called so."""
    start = program()
    if _given["home"]:
        start += f" --home {shlex.quote(_given['home'])}"
    if _given["namespace"] and " -n " not in text:
        start += f" -n {shlex.quote(_given['namespace'])}"
    return _COMMAND.sub(lambda _: f"{start} ", text)


def named(run: str, namespace: str) -> str:
    """A run as the commands take it: `demo`, `demo -n team`."""
    return run if namespace == "default" else f"{run} -n {namespace}"


def program() -> str:
    if _given["program"]:
        return _given["program"]
    called, found = sys.argv[0], shutil.which("swarmrun")
    if Path(called).name == "swarmrun":
        there = found and os.path.exists(called) and os.path.samefile(found, called)
        return "swarmrun" if there else shlex.quote(called)
    if not found and Path(called).absolute() == Path(__file__).with_name("main.py"):
        return f"{shlex.quote(sys.executable)} -m swarmrun.cli.main"
    return "swarmrun"
