"""The command line: `python3 -m helpdesk COMMAND`. It parses and prints; rules live elsewhere.

Commands stand in alphabetical order, as functions and in COMMANDS.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from helpdesk import formats
from helpdesk.desk import Desk, HelpdeskError
from helpdesk.models import Status
from helpdesk.store import Store

Given = argparse.Namespace


def _close(desk: Desk, given: Given) -> None:
    ticket = desk.close(given.id)
    print(f"#{ticket.id} is closed")


def _list(desk: Desk, given: Given) -> None:
    heads = ("id", "customer", "subject", "opened")
    rows = [
        (str(t.id), t.customer, formats.shorten(t.subject), formats.stamp(t.opened_at))
        for t in desk.tickets(None if given.all else Status.OPEN)
    ]
    print(formats.table(heads, rows))


def _open(desk: Desk, given: Given) -> None:
    ticket = desk.open(given.subject, customer=given.customer)
    print(f"#{ticket.id} is open")


def _show(desk: Desk, given: Given) -> None:
    ticket = desk.get(given.id)
    rows = [
        ("customer", ticket.customer),
        ("opened", f"{formats.stamp(ticket.opened_at)} ({formats.ago(ticket.opened_at, desk.now())})"),
        ("status", ticket.status.value),
        ("subject", ticket.subject),
    ]
    print(formats.table((f"#{ticket.id}", ""), rows))


@dataclass(frozen=True)
class Command:
    """`arguments`: what `add_argument` takes, one entry an argument."""

    run: Callable[[Desk, Given], None]
    help: str
    arguments: tuple[tuple[str, dict[str, Any]], ...] = ()


TICKET = ("id", {"type": int, "metavar": "TICKET", "help": "number of the ticket"})

COMMANDS = {
    "close": Command(_close, "close a ticket", (TICKET,)),
    "list": Command(_list, "open tickets", (("--all", {"action": "store_true", "help": "closed ones, too"}),)),
    "open": Command(_open, "open a ticket", (("subject", {}), ("--customer", {"required": True}))),
    "show": Command(_show, "everything about a ticket", (TICKET,)),
}


def main(argv: Optional[list[str]] = None) -> int:
    """Gives the exit code: 0, or 1 with an error on standard error."""
    parser = argparse.ArgumentParser(prog="helpdesk", description="Tickets of a small support team.")
    parser.add_argument("--data", default=os.environ.get("HELPDESK_DATA", "tickets.json"), metavar="FILE")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help)
        for argument, options in command.arguments:
            sub.add_argument(argument, **options)
    given = parser.parse_args(argv)
    try:
        COMMANDS[given.command].run(Desk(Store(Path(given.data))), given)
    except HelpdeskError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


def run() -> None:
    raise SystemExit(main())
