"""What a run of the example must come to, wherever it runs."""

from __future__ import annotations

import shutil
from pathlib import Path

from lab import Lab, tree
from place import BRANCH, NAME
from servers import EXAMPLE


def tree_of_the_example(root: Path) -> str:
    """The tree of its branch, from a run on this machine in the empty directory `root`."""
    lab = Lab(root)
    try:
        file = shutil.copytree(EXAMPLE, root / "examples" / NAME) / "run.yaml"
        (root / "build" / "demo").mkdir(parents=True)
        bare = lab.repository(f"build/demo/{NAME}")
        # As scripts/demo.sh does where bubblewrap is missing: what is recorded is harmless.
        lab.run(
            "run", "-f", str(file), *([] if shutil.which("bwrap") else ["--unsafe-no-sandbox"]), patience=240
        )
        return tree(bare, BRANCH)
    finally:
        lab.close()
