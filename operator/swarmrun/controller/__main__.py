"""`swarmrun-operator`, or `python -m swarmrun.controller`."""

from __future__ import annotations

import argparse
import os
import sys


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
    role = parser.parse_args().role

    from swarmrun.controller.settings import OperatorSettings
    from swarmrun.errors import SwarmRunError
    from swarmrun.observability import logs

    try:
        logs.set_up(os.environ)
        settings = OperatorSettings.read(os.environ)
        from swarmrun.controller.process import run

        run(role, settings)
    except SwarmRunError as exc:
        sys.exit(f"swarmrun-operator: {exc}")


if __name__ == "__main__":
    main()
