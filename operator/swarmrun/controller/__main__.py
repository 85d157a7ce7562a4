"""`swarmrun-operator`, or `python -m swarmrun.controller`."""

from __future__ import annotations

import argparse
import logging
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
    level = os.environ.get("SWARMRUN_LOG", "INFO").upper()
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    for noisy in ("httpx", "httpx2", "agent_framework", "azure", "kopf.objects", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)

    from swarmrun.controller.settings import OperatorSettings
    from swarmrun.errors import SwarmRunError

    try:
        settings = OperatorSettings.read(os.environ)
        from swarmrun.controller.process import run

        run(role, settings)
    except SwarmRunError as exc:
        sys.exit(f"swarmrun-operator: {exc}")


if __name__ == "__main__":
    main()
