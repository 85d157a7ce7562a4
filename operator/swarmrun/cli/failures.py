"""Errors as people and programs read them."""

from __future__ import annotations

import json
import os
import sys
from itertools import pairwise

import typer

from swarmrun.cli.typed import typed
from swarmrun.errors import SwarmRunError


class Interrupted(Exception):
    """Ctrl-C while a run was at work; `mend` says how to go on. No KeyboardInterrupt: typer swallows those."""

    def __init__(self, mend: str) -> None:
        super().__init__(mend)
        self.mend = mend


def wants_json(arguments: list[str]) -> bool:
    """Read from the raw arguments: it must hold for errors of the parser itself too."""
    pairs = pairwise([*arguments, ""])
    return any(
        (word in ("-o", "--output") and value == "json") or word in ("-ojson", "-o=json", "--output=json")
        for word, value in pairs
    )


def report(exc: BaseException, *, as_json: bool) -> int:
    """Writes the error to standard error and returns the exit code. What is nobody's fault here is raised on."""
    if isinstance(exc, typer.Exit):
        return exc.exit_code
    if isinstance(exc, SwarmRunError):
        return _say(
            exc.message,
            exc.mend,
            exc.reason,
            exc.exit_code,
            field=getattr(exc, "field", ""),
            as_json=as_json,
        )
    if isinstance(exc, (Interrupted, KeyboardInterrupt, typer.Abort)):
        return _say("interrupted", getattr(exc, "mend", ""), "Interrupted", 130, as_json=as_json)
    if isinstance(exc, BrokenPipeError) or (
        isinstance(exc, SystemExit) and isinstance(exc.__context__, BrokenPipeError)
    ):
        # `swarmrun logs demo | head -1`: the reader has had enough. typer makes an exit with 1 of it. What is
        # still in the buffer goes nowhere, or the interpreter would complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    if type(exc).__name__ == "NoArgsIsHelpError":
        # A group without its command; the class is typer's own and not exported.
        typer.echo(str(exc), err=True)
        return 2
    usage = getattr(exc, "format_message", None)
    if usage is not None:
        context = getattr(exc, "ctx", None)
        mend = f"{context.command_path} --help" if context is not None else ""
        return _say(usage(), mend, "Usage", 2, as_json=as_json)
    raise exc


def _say(message: str, mend: str, reason: str, code: int, *, field: str = "", as_json: bool) -> int:
    mend = typed(mend)
    if as_json:
        error = {"reason": reason, "message": message, "mend": mend, "field": field, "exitCode": code}
        print(json.dumps({"error": {k: v for k, v in error.items() if v != ""}}), file=sys.stderr)
    else:
        from swarmrun.api.printable import printable

        print(printable(f"error: {message}" + (f"\n  mend: {mend}" if mend else "")), file=sys.stderr)
    return code
