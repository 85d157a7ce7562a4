"""What each rung merges, and what it leaves alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from swarmrun.merging.cases import Case
from swarmrun.merging.ladder import resolve
from swarmrun.merging.rungs import lockfiles
from swarmrun.merging.rungs.structural import Structural


def test_edits_of_lines_that_touch_each_other_both_count(merged):
    text, _ = merged("m.py", "a = 1\nb = 2\n", "a = 10\nb = 2\n", "a = 1\nb = 20\n")
    assert text == "a = 10\nb = 20\n"


def test_two_neighbouring_deletions_both_count(merged):
    base = "x = [\n    'a',\n    'b',\n    'c',\n]\n"
    text, _ = merged("m.py", base, base.replace("    'a',\n", ""), base.replace("    'b',\n", ""))
    assert text == "x = [\n    'c',\n]\n"


def test_a_layout_change_of_one_side_keeps_the_others_edit(merged):
    base = "def f(a, b):\n    return call(a, b, 'x')\n"
    ours = 'def f(a, b):\n    return call(\n        a,\n        b,\n        "x",\n    )\n'
    theirs = "def f(a, b):\n    return call(a, b, 'y')\n"
    text, _ = merged("m.py", base, ours, theirs)
    assert compile(text, "m", "exec")
    assert "'y'" in text


def test_a_body_that_one_side_moved_inwards_keeps_the_others_edit(merged):
    base = "def f():\n    a = 1\n    b = 2\n    return a + b\n"
    ours = "def f():\n    if x():\n        a = 1\n        b = 2\n        return a + b\n"
    theirs = "def f():\n    a = 1\n    b = 3\n    return a + b\n"
    found = resolve(Case("m.py", base.encode(), ours.encode(), theirs.encode()))
    if found is not None:
        assert b"        b = 3\n" in found[0]


def test_a_rename_of_one_side_reaches_the_lines_that_the_other_changed(merged):
    base = "def f(resp):\n    return resp.url\n"
    ours = "def f(response):\n    return response.url\n"
    theirs = "def f(resp):\n    log(resp)\n    return resp.url or resp.path\n"
    text, _ = merged("m.py", base, ours, theirs)
    assert "resp." not in text.replace("response", "")
    assert "log(response)" in text


def test_an_import_that_one_side_dropped_and_the_other_needs_comes_back(merged):
    base = "import os\nfrom a import b, c\n\n\ndef f():\n    return b, c, os\n"
    ours = "import os\nfrom a import b\n\n\ndef f():\n    return b, os\n"
    theirs = base + "\n\ndef g():\n    return c\n"
    text, _ = merged("m.py", base, ours, theirs)
    assert "from a import b, c" in text


def test_items_added_to_one_line_by_both_stay_both(merged):
    text, _ = merged(
        "m.py",
        "__all__ = ['a']\na = 1\n",
        "__all__ = ['a', 'b']\na = b = 1\n",
        "__all__ = ['a', 'c']\na = 1\nc = 2\n",
    )
    assert "'a', 'b', 'c'" in text


def test_a_statement_that_both_sides_changed_is_not_doubled():
    base = "setup(\n    name='x',\n    version='1',\n)\n"
    found = resolve(
        Case("s.py", base.encode(), base.replace("'1'", "a()").encode(), base.replace("'1'", "b[0]").encode())
    )
    assert found is None or found[0].count(b"setup(") == 1


def test_methods_added_to_one_class_and_a_changed_method_of_another_merge(merged):
    base = "class A:\n    def f(self):\n        return 1\n\n\nclass B:\n    def g(self):\n        return 2\n"
    ours = base.replace("        return 1\n", "        return 1\n\n    def new(self):\n        return 5\n")
    theirs = base.replace(
        "        return 1\n", "        return 1\n\n    def other(self):\n        return 6\n"
    ).replace("return 2", "return 22")
    text, _ = merged("m.py", base, ours, theirs)
    assert all(part in text for part in ("def new", "def other", "return 22"))


def test_the_same_insertion_in_two_wordings_is_not_kept_twice():
    base = "def f(item):\n    return item\n"
    ours = "def f(item):\n    if default and isinstance(item, Undefined):\n        item = default\n    return item\n"
    theirs = "def f(item):\n    if isinstance(item, Undefined) and default:\n        item = default\n    return item\n"
    assert resolve(Case("m.py", base.encode(), ours.encode(), theirs.encode())) is None


def test_two_fractions_are_not_taken_for_versions():
    case = Case("m.py", b"timeout = 1.5\n", b"timeout = 2.5\n", b"timeout = 0.5\n")
    assert resolve(case) is None


def test_two_versions_become_the_higher(merged):
    assert merged("m.py", "__version__ = '1.2.0'\n", "__version__ = '1.3.0'\n", "__version__ = '1.2.1'\n")[
        0
    ] == ("__version__ = '1.3.0'\n")


TYPESCRIPT = 'import { a } from "./a";\n\nexport class C {\n  m(x: number): number {\n    return x;\n  }\n}\n'


def test_typescript_members_and_named_imports_of_both_sides_merge(merged):
    end = "  }\n}"
    ours = TYPESCRIPT.replace("{ a }", "{ a, b }").replace(end, "  }\n\n  n(): void {\n    b();\n  }\n}")
    theirs = TYPESCRIPT.replace("{ a }", "{ a, c }").replace(end, "  }\n\n  o(): void {\n    c();\n  }\n}")
    text, how = merged("x.ts", TYPESCRIPT, ours, theirs)
    assert how in ("Rules", "Declarations")
    assert 'import { a, b, c } from "./a";' in text
    assert text.count("n(): void") == text.count("o(): void") == 1


def test_go_functions_and_import_blocks_of_both_sides_merge(merged):
    base = 'package x\n\nimport (\n\t"fmt"\n)\n\nfunc A() int {\n\treturn 1\n}\n'
    ours = base.replace('\t"fmt"', '\t"fmt"\n\t"os"') + "\nfunc B() int {\n\treturn 2\n}\n"
    theirs = base.replace('\t"fmt"', '\t"bytes"\n\t"fmt"') + "\nfunc C() int {\n\treturn 2\n}\n"
    text, _ = merged("x.go", base, ours, theirs)
    assert text.count("import (") == 1
    assert '\t"bytes"\n\t"fmt"\n\t"os"\n' in text
    assert "func B()" in text
    assert "func C()" in text


PYPROJECT = '[project]\nname = "x"\ndependencies = [\n    "click>=8.0",  # cli\n    "httpx>=0.20",\n]\n'
PYPROJECT += "\n[tool.ruff]\nline-length = 100\n"


def test_toml_dependencies_of_both_stay_with_their_comments(merged):
    ours = PYPROJECT.replace('    "httpx', '    "flask>=2",\n    "httpx').replace("100", "110")
    theirs = PYPROJECT.replace('    "httpx', '    "django>=4",\n    "httpx').replace(
        "click>=8.0", "click>=8.1"
    )
    text, how = merged("pyproject.toml", PYPROJECT, ours, theirs)
    assert how == "Keys"
    assert '"click>=8.1",  # cli\n' in text
    assert all(part in text for part in ('"flask>=2"', '"django>=4"', "line-length = 110"))


def test_json_keys_merge_and_the_layout_stays(merged):
    base = json.dumps({"name": "a", "dependencies": {"a": "^1.0.0"}}, indent=4) + "\n"
    ours = json.dumps({"name": "a", "dependencies": {"a": "^1.0.0", "b": "^2.0.0"}}, indent=4) + "\n"
    theirs = json.dumps({"name": "a", "dependencies": {"a": "^1.1.0", "c": "^3.0.0"}}, indent=4) + "\n"
    text, _ = merged("package.json", base, ours, theirs)
    expected = {"name": "a", "dependencies": {"a": "^1.1.0", "b": "^2.0.0", "c": "^3.0.0"}}
    assert text == json.dumps(expected, indent=4) + "\n"


def test_yaml_list_items_of_both_stay_with_their_comments(merged):
    base = "# top\njobs:\n  test:\n    steps:\n      - name: a\n        run: x\n"
    ours = base + "      - name: b  # bee\n        run: y\n"
    theirs = base + "      - name: c\n        run: z\n"
    text, _ = merged("ci.yaml", base, ours, theirs)
    assert text.startswith("# top\n")
    assert text.index("name: b  # bee") < text.index("name: c")


def test_the_same_setting_set_differently_is_a_conflict():
    base, ours, theirs = (f'{{\n  "a": {v}\n}}\n'.encode() for v in ("1", "2", "3"))
    assert resolve(Case("x.json", base, ours, theirs)) is None


def test_a_json_key_deleted_by_one_and_changed_by_the_other_is_a_conflict():
    base, ours, theirs = b'{\n  "a": 1,\n  "b": 1\n}\n', b'{\n  "b": 1\n}\n', b'{\n  "a": 2,\n  "b": 1\n}\n'
    assert resolve(Case("x.json", base, ours, theirs)) is None


def test_requirements_merge_by_package(merged):
    text, _ = merged(
        "requirements.txt", "a==1.0\nb==1.0\n", "a==1.0\nb==2.0\nc==1.0\n", "a==1.1\nb==1.0\nd==1.0\n"
    )
    assert text == "a==1.1\nb==2.0\nc==1.0\nd==1.0\n"


def test_changelog_entries_of_both_stay(merged):
    text, _ = merged("CHANGELOG.md", "# C\n\n- x\n", "# C\n\n- x\n- y\n", "# C\n\n- x\n- z\n")
    assert text == "# C\n\n- x\n- y\n- z\n"


def test_a_lockfile_is_not_merged_but_names_the_command_that_makes_it_anew():
    found = resolve(Case("web/package-lock.json", b'{"a":1}\n', b'{"a":2}\n', b'{"a":3}\n'))
    assert found is not None
    assert found[1].how == "Lockfile"
    assert found[1].command == "cd 'web' && npm install --package-lock-only --ignore-scripts"
    assert found[0] == b'{"a":2}\n'
    assert lockfiles.command("README.md") == ""


def test_mergiraf_is_asked_where_it_is_present(tmp_path: Path):
    tool = tmp_path / "mergiraf"
    tool.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho "x = 3" > "$2"\n')
    tool.chmod(0o755)
    case = Case("m.py", b"x = 0\n", b"x = 1\n", b"x = 2\n")
    attempt = Structural(str(tool)).resolve(case)
    assert attempt is not None
    assert attempt.text == "x = 3\n"
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert Structural(str(tool)).resolve(case) is None
    assert Structural(str(tmp_path / "missing")).resolve(case) is None


@pytest.mark.skipif(shutil.which("mergiraf") is None, reason="mergiraf is not installed")
def test_the_real_mergiraf_answers():
    case = Case("m.py", b"x = 0\ny = 0\n", b"x = 1\ny = 0\n", b"x = 0\ny = 1\n")
    attempt = Structural().resolve(case)
    assert attempt is not None
