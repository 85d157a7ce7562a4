"""Lockfiles are made anew, not merged: their lines belong together and no merge of lines is one of them.

The ladder cannot run package managers (it works on objects, and would run a stranger's code). It takes the
lockfile of the side whose manifest the merged manifest equals; where it equals neither, that of ours, which
is a whole and valid file, though out of date. Either way the resolution names the command that makes the
file anew; the integration sandbox runs it, and what it writes is committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from swarmrun.merging.cases import Attempt, Case, How

_COMMANDS = {
    "package-lock.json": "npm install --package-lock-only --ignore-scripts",
    "npm-shrinkwrap.json": "npm install --package-lock-only --ignore-scripts",
    "yarn.lock": "yarn install --mode=update-lockfile",
    "pnpm-lock.yaml": "pnpm install --lockfile-only --ignore-scripts",
    "bun.lock": "bun install --lockfile-only",
    "poetry.lock": "poetry lock",
    "uv.lock": "uv lock",
    "pdm.lock": "pdm lock --update-reuse",
    "Pipfile.lock": "pipenv lock",
    "Cargo.lock": "cargo update --workspace",
    "go.sum": "go mod tidy",
    "composer.lock": "composer update --lock",
    "Gemfile.lock": "bundle lock",
    "mix.lock": "mix deps.get",
    "flake.lock": "nix flake lock",
}


def command(path: str) -> str:
    """What makes the lockfile anew, to be run in the repository's root; empty for other files."""
    pure = PurePosixPath(path)
    found = _COMMANDS.get(pure.name, "")
    folder = str(pure.parent)
    return f"cd '{folder}' && {found}" if found and folder != "." else found


@dataclass(frozen=True)
class Lockfiles:
    how: How = "Lockfile"

    def resolve(self, case: Case) -> Attempt | None:
        base, ours, theirs = case.texts
        again = command(case.path)
        if not again:
            return None
        if PurePosixPath(case.path).name == "go.sum":
            # A list of hashes: having more of them is harmless, and tidy removes them.
            return Attempt("".join(sorted({*case.lines[1], *case.lines[2]})), f"union; make it anew: {again}")
        text = theirs if ours == base else ours
        return Attempt(text, f"kept from one side, out of date until made anew: {again}")
