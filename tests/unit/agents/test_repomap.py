from __future__ import annotations

import pytest

from swarmrun.agents.repomap import guide, repo_map
from swarmrun.errors import NotFound


def tree(files: dict[str, str]):
    def read(path: str) -> bytes:
        if path not in files:
            raise NotFound(path)
        return files[path].encode()

    return list(files), read


def test_manifests_come_first_and_what_others_use_before_what_nobody_uses():
    files = {
        "zz/core.py": "class TicketStore:\n    def load_ticket(self): ...\n    def _hidden(self): ...\n",
        "aa/lonely.py": "def never_used_here():\n    return 2\n",
        "pyproject.toml": "[project]\nname = 'x'\n",
        "tests/test_core.py": "from zz.core import TicketStore\n\ndef test_ticket_store(): ...\n",
        **{f"app/u{n}.py": "from zz.core import TicketStore\n" for n in range(5)},
    }
    text = repo_map(*tree(files))

    assert text.startswith("== pyproject.toml\n[project]")
    assert text.index("== zz/core.py\nL1 class TicketStore\n  load_ticket") < text.index("== aa/lonely.py")
    assert "_hidden" not in text
    assert "app/ (5 .py)" in text


@pytest.mark.parametrize("tokens", [200, 1000, 8000])
def test_the_map_keeps_its_bound_whatever_the_repository(tokens):
    files = {
        f"pkg{n % 30}/module_{n}.py": "".join(f"def function_{n}_{k}(a, b): ...\n" for k in range(20))
        for n in range(150)
    }
    files["package.json"] = "{" + '"x": 1,\n' * 5000 + "}"
    text = repo_map(*tree(files), max_tokens=tokens)
    assert len(text) <= tokens * 3.5
    assert text


def test_the_same_repository_gives_the_same_map_in_any_order():
    files = {f"m{n}.py": f"def shared_name(): ...\ndef own_{n}(): shared_name()\n" for n in range(20)}
    paths, read = tree(files)
    assert repo_map(paths, read) == repo_map(paths[::-1], read)


def test_odd_files_do_no_harm():
    files = {
        "a.py": "def broken(:\n",
        "b.py": "\0\1",
        "c.py": "",
        "d.bin": "\0",
        "e.js": "function go() {}\n",
    }
    paths, read = tree(files)
    text = repo_map([*paths, "gone.py"], read)
    assert "function go()" in text
    assert repo_map([], read) == ""


def test_the_repositorys_own_guide_is_found():
    assert guide(*tree({"CLAUDE.md": "c", "AGENTS.md": "a"})) == "a"
    assert guide(*tree({"CLAUDE.md": "c", "AGENTS.md": "  "})) == "c"
    assert guide(*tree({"docs/AGENTS.md": "x"})) == ""
