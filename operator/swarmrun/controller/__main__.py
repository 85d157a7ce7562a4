"""`swarmrun-operator`, or `python -m swarmrun.controller`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from swarmrun.controller.trust import trust

if TYPE_CHECKING:
    from swarmrun.controller.settings import OperatorSettings


def main() -> None:
    """Nothing heavy is imported before the arguments are read."""
    parser = argparse.ArgumentParser(
        prog="swarmrun-operator",
        description="Works on the SwarmRuns of a cluster. Set up by environment: see swarmrun.controller.settings.",
    )
    parser.add_argument(
        "--role",
        choices=("all", "controller", "worker"),
        default="all",
        help="all: one process, as the embedded engine needs it (default)",
    )
    parser.add_argument(
        "--check",
        metavar="NAME[,NAME…]",
        help="instead of working: operator, engine, storage, models, network; says what is well and what is not",
    )
    parsed = parser.parse_args()
    trust(os.environ)

    from swarmrun.controller.settings import OperatorSettings
    from swarmrun.errors import SwarmRunError
    from swarmrun.observability import logs

    try:
        logs.set_up(os.environ)
        settings = OperatorSettings.read(os.environ)
        if parsed.check:
            _check(parsed.check.split(","), settings)
            return
        from swarmrun.controller.process import run

        run(parsed.role, settings)
    except SwarmRunError as exc:
        sys.exit(f"swarmrun-operator: {exc}")


def _check(names: list[str], settings: OperatorSettings) -> None:
    """Exit code 1 when something required is missing."""
    from swarmrun.controller import checks
    from swarmrun.errors import InvalidResource
    from swarmrun.findings import line

    if unknown := [n for n in names if n not in checks.CHECKS]:
        raise InvalidResource(f"no check {', '.join(unknown)}", mend=f"one of {', '.join(checks.CHECKS)}")
    found = checks.run(names, settings)
    for finding in found:
        print(line(finding), flush=True)
    if any(f.level == "problem" for f in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
