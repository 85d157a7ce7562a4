"""The command line: add, list, stats."""

from __future__ import annotations

import argparse
import sys

from shortener.formats import shorten, slug
from shortener.storage import Storage


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="shortener")
    parser.add_argument("--database", default="links.db")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="make a short link")
    add.add_argument("url")
    add.add_argument("--title", default="", help="words that the code is made of")
    commands.add_parser("list", help="all links")
    commands.add_parser("stats", help="how often each was followed")
    given = parser.parse_args(argv)
    storage = Storage(given.database)
    if given.command == "add":
        try:
            link = storage.add(given.url, slug(given.title) if given.title else None)
        except ValueError as exc:
            print(f"error: {exc}", file=sys.stderr)
            return 2
        print(link.code)
    elif given.command == "list":
        for link in storage.all():
            print(f"{link.code}  {shorten(link.url)}")
    else:
        for link in sorted(storage.all(), key=lambda each: -each.hits):
            print(f"{link.hits:6}  {link.code}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
