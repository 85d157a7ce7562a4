# Sources stand on one line, as they are compared.
# ruff: noqa: E501
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmrun.api.plan import Contract, Plan, Task
from swarmrun.code.parse import syntax_errors
from swarmrun.planning.amend import classify
from swarmrun.planning.contracts import verify
from swarmrun.planning.python_scaffold import stubbed
from swarmrun.planning.scaffold import concerned, scaffold

MODEL = "@dataclass(frozen=True)\nclass Link:\n    code: str\n    url: str  # absolute\n    hits: int = 0"
STORE = 'import sqlite3\nclass Store:\n    def __init__(self, path: str): ...\n    def add(self, url: str) -> Link:\n        """Adds."""'


@pytest.fixture
def made(plan_of, task_of):
    """Scaffolds contracts; gives the files as text. Errors fail the test."""

    def make(*contracts, existing=None, empty=False, **more):
        task = task_of("a", provides=[c.id for c in contracts], owned_paths=["docs/"])
        plan = plan_of(task, contracts=contracts)
        result = scaffold(plan, existing or {}, empty=empty, paths=list(existing or {}), **more)
        assert result.errors == []
        for path, content in result.files.items():
            assert not syntax_errors(path, content), (path, content)
        return {path: content.decode() for path, content in result.files.items()}

    return make


@pytest.fixture
def errors(plan_of, task_of):
    def make(*contracts, existing=None):
        result = scaffold(plan_of(task_of("a"), contracts=contracts), existing or {}, empty=False)
        assert result.files == {}
        return result.errors

    return make


def test_an_empty_repository_becomes_a_package_that_imports_and_collects(made, function, tmp_path: Path):
    files = made(
        function(STORE, id="store", kind="class", path="shop/storage.py"),
        function(MODEL, id="link", kind="data-model", path="shop/models.py"),
        function("def main(argv: Optional[list[str]] = None) -> int: ...", id="main", path="shop/cli.py"),
        empty=True,
    )
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "tests/test_it.py").write_text(
        "import pytest\nfrom shop.cli import main\nfrom shop.models import Link\nfrom shop.storage import Store\n"
        "def test_stub():\n    Link('a', 'b')\n    with pytest.raises(NotImplementedError):\n        main([])\n"
        "    with pytest.raises(NotImplementedError):\n        Store('x')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert {"pyproject.toml", ".gitignore", "shop/__init__.py", "tests/__init__.py"} <= files.keys()


def test_a_type_of_another_contract_is_imported(made, function):
    files = made(
        function(STORE, id="store", kind="class", path="shop/storage.py"),
        function(MODEL, id="link", kind="data-model", path="shop/models.py"),
    )
    assert "from shop.models import Link" in files["shop/storage.py"]
    assert "from dataclasses import dataclass" in files["shop/models.py"]


def test_comments_and_docstrings_survive(made, function):
    files = made(function(MODEL, kind="data-model"), function(STORE, id="s", kind="class"))
    assert "url: str  # absolute" in files["shop/a.py"]
    assert '"""Adds."""\n        raise NotImplementedError' in files["shop/a.py"]


def test_contracts_of_one_file_are_joined_with_future_imports_and_docstring_first(made, function):
    text = made(
        function('"""Shop."""\nfrom typing import Any\ndef f(x: Any) -> int: ...', id="f"),
        function(
            "from __future__ import annotations\nfrom typing import Any, Protocol\nimport os\ndef g() -> Any: ...",
            id="g",
        ),
        function("class Base:\n    x: int = 1", id="m", kind="data-model"),
    )["shop/a.py"]
    assert text.startswith(
        '"""Shop."""\n\nfrom __future__ import annotations\n\nimport os\nfrom typing import Any, Protocol\n'
    )
    assert text.count("from __future__") == 1
    assert text.index("class Base") < text.index("def f"), "data models stand first"


def test_a_base_class_stands_before_what_inherits_from_it(made, function):
    text = made(
        function("class B(A):\n    y: int = 0", id="b", kind="data-model"),
        function("class A:\n    x: int = 0", id="a", kind="data-model"),
    )["shop/a.py"]
    assert text.index("class A") < text.index("class B")


def test_two_contracts_may_give_methods_to_one_class(made, function):
    text = made(
        function("class Store:\n    def get(self) -> int: ...", id="get", kind="class"),
        function("class Store:\n    def put(self, n: int) -> None: ...", id="put", kind="class"),
    )["shop/a.py"]
    assert text.count("class Store") == 1
    assert text.count("raise NotImplementedError") == 2


def test_two_contracts_that_differ_on_one_function_are_an_error(errors, function):
    told = errors(function("def f(a): ...", id="one"), function("def f(b): ...", id="two"))
    assert told == ["contracts one and two both declare f and differ: keep one of them"]


def test_existing_files_are_added_to_and_never_overwritten(made, function):
    before = '"""Old."""\nimport os\n\n\ndef f():\n    return os.name  # mine\n\n\nclass Store:\n    def get(self):\n        return 1\n\n\nLAST = 1\n'
    text = made(
        function("import json\ndef f() -> str: ...\ndef g() -> 'json.JSONDecoder': ...", id="fg"),
        function(
            "class Store:\n    def get(self) -> int: ...\n    def put(self) -> None: ...",
            id="s",
            kind="class",
        ),
        existing={"shop/a.py": before.encode()},
    )["shop/a.py"]
    assert "return os.name  # mine" in text
    assert "        return 1\n" in text
    assert "import json" in text
    assert text.count("def get") == text.count("def put") == text.count("def g()") == 1
    assert text.index("def put") < text.index("LAST")


def test_new_fields_of_an_existing_class_find_the_types_of_their_defaults(made, function):
    before = (
        "from dataclasses import dataclass\n\n\n# Mine.\n@dataclass\nclass Ticket:\n    id: int\n\n\n"
        "def last(): ...\n"
    )
    declaration = (
        "from enum import Enum\n\n\nclass Ticket:\n    id: int\n    level: Level = Level.LOW\n    by: str = ''\n\n"
        "    def urgent(self) -> bool:\n        return self.level > Level.LOW\n\n\n"
        "class Base(Enum):\n    pass\n\n\nclass Level(Base):\n    LOW = 1\n\n\nclass Note:\n    text: str = ''"
    )
    text = made(function(declaration, id="t", kind="data-model"), existing={"shop/a.py": before.encode()})[
        "shop/a.py"
    ]
    exec(compile(text, "a.py", "exec"), {"__name__": "a"})
    assert (
        "    LOW = 1\n\n\n# Mine.\n@dataclass\nclass Ticket:\n    id: int\n    level: Level = Level.LOW\n    by"
        in text
    )
    assert "    by: str = ''\n\n    def urgent" in text
    assert "Level.LOW\n\n\ndef last" in text
    assert text.endswith("...\n\n\nclass Note:\n    text: str = ''\n")


def test_a_file_that_holds_everything_already_is_not_touched(made, function):
    before = b"def f() -> str:\n    return 'x'\n"
    assert made(function("def f() -> str: ..."), existing={"shop/a.py": before}) == {}


@pytest.mark.parametrize(
    ("declaration", "body"),
    [
        ("def f(): ...", "def f():\n    raise NotImplementedError"),
        ("def f():\n    pass", "def f():\n    raise NotImplementedError"),
        ('def f(): """Doc."""', "Doc."),
        ('def f(): """Doc."""', "raise NotImplementedError"),
        (
            "async def f(a: int = 1, *, b=2) -> int:\n    ...  # later",
            "    raise NotImplementedError  # later",
        ),
        ("def f():\n    return 1", "def f():\n    return 1"),
        ("class P(Protocol):\n    def f(self): ...", "    def f(self): ..."),
        ("class E(Exception): ...", "class E(Exception): ..."),
        ("def é(): ...\ndef g(): ...", "def g():\n    raise NotImplementedError"),
    ],
)
def test_bodies_become_stubs_and_real_ones_stay(declaration, body):
    text = stubbed(declaration)
    compile(text, "x", "exec")
    assert body in text


@pytest.mark.parametrize(
    "declaration", ["def f(a: int) -> str", "class S:\n    def f(self) -> str\n    def g(self):"]
)
def test_signatures_without_colon_or_body_are_understood(made, function, declaration):
    assert "raise NotImplementedError" in made(function(declaration, kind="class"))["shop/a.py"]


def test_what_does_not_parse_goes_back_to_the_planner(errors, function):
    (told,) = errors(function("import os\nfunction f(a) {}"))
    assert told.startswith("contract c: line 2 of the declaration does not parse as Python")


@pytest.mark.parametrize(
    "declaration",
    [
        "def f(x: Widget) -> int: ...",
        "def f() -> 'Widget': ...",
        "class A(Widget):\n    x: int",
        "def f(x: list['Widget']): ...",
    ],
)
def test_an_undefined_name_goes_back_to_the_planner(errors, function, declaration):
    (told,) = errors(function(declaration, kind="class"))
    assert told.startswith("contract c (shop/a.py) uses Widget, which is neither declared nor imported")


def test_literals_are_values_not_names(made, function):
    made(function("def f(x: Literal['open', 'shut']) -> 'int': ..."))


def test_a_data_model_with_an_empty_method_goes_back_to_the_planner(errors, function):
    (told,) = errors(function("class M:\n    x: int\n    def late(self) -> bool: ...", kind="data-model"))
    assert "the data model's method late has no body" in told


def test_file_contracts_are_written_unless_they_would_overwrite(made, errors, function):
    config = function("[tool]\nx = 1", kind="file", path="tool.toml")
    assert made(config) == {"tool.toml": "[tool]\nx = 1\n"}
    assert "with another content" in errors(config, existing={"tool.toml": b"y"})[0]
    assert made(function("", kind="file", path="later.txt")) == {}


def test_routes_are_documented_only_unless_they_declare_a_function(made, function):
    assert made(function("POST /links -> 201", kind="route", path="api.py")) == {}
    handler = '@app.post("/links")\ndef create(url: str) -> dict: ...'
    text = made(function(handler, kind="route"))["shop/a.py"]
    assert "def create(url: str) -> dict:\n    raise NotImplementedError" in text
    assert "@app" not in text, "there is no app yet"


def test_new_packages_are_made_and_old_folders_left_as_they_are(made, function):
    contract = function("def f(): ...", path="src/shop/core/a.py")
    assert {"src/shop/__init__.py", "src/shop/core/__init__.py"} <= made(contract).keys()
    files = made(contract, existing={"src/shop/core/b.py": b""})
    assert "src/shop/core/__init__.py" not in files


def test_third_party_imports_become_dependencies(made, function):
    contract = function("import yaml\nfrom fastapi import FastAPI\ndef app() -> FastAPI: ...")
    assert 'dependencies = ["PyYAML", "fastapi"]' in made(contract, empty=True)["pyproject.toml"]


def test_typescript_is_scaffolded(made, function):
    files = made(
        function(
            "export interface Link { code: string; hits: number }",
            id="m",
            kind="data-model",
            path="src/models.ts",
        ),
        function(
            'import { Link } from "./models.js";\n/** Adds. */\nexport function add(url: string): Link;\n'
            "export class Store {\n  constructor(private path: string) {}\n  async get(code: string): Promise<Link> { ... }\n}",
            kind="class",
            path="src/store.ts",
        ),
        empty=True,
    )
    text = files["src/store.ts"]
    assert text.count('throw new Error("not implemented");') == 2
    assert "/** Adds. */\nexport function add(url: string): Link {" in text
    assert "constructor(private path: string) {}" in text
    assert {"package.json", "tsconfig.json"} <= files.keys()


def test_go_is_scaffolded(made, function):
    files = made(
        function("type Link struct {\n\tCode string\n}", id="m", kind="data-model", path="store/link.go"),
        function(
            'import "errors"\n\nvar ErrNone = errors.New("none")\n\nfunc (s *Store) Get(code string) (Link, error)',
            kind="class",
            path="store/store.go",
        ),
        function("type Store struct{}\n\nfunc New() *Store { ... }", id="n", path="store/store.go"),
        empty=True,
    )
    text = files["store/store.go"]
    assert text.startswith('package store\n\nimport "errors"\n')
    assert text.count('panic("not implemented")') == 2
    assert files["go.mod"].startswith("module store\n")


def test_an_existing_typescript_file_is_added_to(made, function):
    before = b'import { a } from "./a.js";\nexport function old() { return a; }\n'
    text = made(
        function(
            'import { b } from "./b.js";\nexport function old(): void;\nexport function fresh(x: b): void;',
            path="src/x.ts",
        ),
        existing={"src/x.ts": before},
    )["src/x.ts"]
    assert text.startswith('import { a } from "./a.js";\nimport { b } from "./b.js";\n')
    assert "export function old() { return a; }" in text
    assert text.count("old()") == 1


def test_other_languages_get_data_models_only(made, function):
    files = made(
        function("CREATE TABLE t (id int);", id="m", kind="data-model", path="schema.sql"),
        function("fn f() -> i32;", path="src/lib.rs"),
    )
    assert files == {"schema.sql": "CREATE TABLE t (id int);\n"}


def test_the_caller_learns_which_files_matter(plan_of, function):
    assert "shop/a.py" in concerned(plan_of("a", contracts=(function("x = 1"),)))


def test_new_functions_stand_before_what_runs_the_file(made, function):
    before = b'"""Old."""\n\n\ndef main():\n    print(1)\n\n\nif __name__ == "__main__":\n    main()\n'
    text = made(function("import os\ndef f() -> os.PathLike: ..."), existing={"shop/a.py": before})[
        "shop/a.py"
    ]
    assert text.index("def f") < text.index("if __name__")
    assert text.startswith('"""Old."""\n\nimport os\n')


def test_line_endings_of_an_existing_file_stay(plan_of, function):
    before = b"import os\r\n\r\nX = os.sep\r\n"
    result = scaffold(
        plan_of("a", contracts=(function("def f() -> int: ..."),)), {"shop/a.py": before}, empty=False
    )
    assert result.files["shop/a.py"].startswith(before)
    assert b"\n" not in result.files["shop/a.py"].replace(b"\r\n", b"")


def test_an_empty_file_in_the_repository_is_filled_like_a_new_one(made, function):
    assert made(function("def f(x: Any): ..."), existing={"shop/a.py": b"\n"})["shop/a.py"].startswith(
        "from __future__"
    )


def test_a_folder_of_tests_that_is_no_package_gets_no_package_inside(made, function):
    contract = function("def f(): ...", path="tests/api/a.py")
    assert made(contract, existing={"tests/test_old.py": b""}).keys() == {"tests/api/a.py"}


NAMES = st.sampled_from(["a", "b", "c", "key", "url"])
TYPES = st.sampled_from(
    ["int", "str | None", "Optional[str]", "'list[int]'", "dict[str, Any]", "Callable[[int], str]"]
)
PARAMETER = st.tuples(NAMES, st.none() | TYPES, st.none() | st.sampled_from(["None", "1", "'x'", "()"]))
FUNCTION = st.tuples(
    st.sampled_from(["def", "async def"]),
    st.lists(PARAMETER, max_size=4, unique_by=lambda p: p[0]),
    st.integers(0, 4),
    st.none() | TYPES,
    st.sampled_from(
        [
            " ...",
            "\n    ...",
            '\n    """Doc."""',
            '\n    """Doc."""\n    pass',
            "\n    raise NotImplementedError('x')",
        ]
    ),
)


def signature_of(case, name, first=""):
    word, parameters, star, returns, body = case
    parts = [first] if first else []
    optional = False
    for at, (parameter, annotation, default) in enumerate(parameters):
        if at == star:
            parts.append("*")
            optional = False
        default = default or ("None" if optional else None)
        optional = default is not None
        parts.append(
            parameter + (f": {annotation}" if annotation else "") + (f"={default}" if default else "")
        )
    return f"{word} {name}({', '.join(parts)})" + (f" -> {returns}" if returns else "") + ":" + body


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FUNCTION, st.lists(FUNCTION, min_size=1, max_size=3))
def test_a_scaffold_whose_stubs_are_filled_keeps_its_contracts(function, methods):
    members = [signature_of(case, f"m{n}", "self").replace("\n", "\n    ") for n, case in enumerate(methods)]
    declared = {
        "f": signature_of(function, "f"),
        "k": "class K:\n    size: int\n" + "\n".join("    " + member for member in members),
    }
    contracts = [Contract(id=i, path="shop/a.py", declaration=d) for i, d in declared.items()]
    task = Task(id="t", title="t", instructions="x", provides=list(declared), owned_paths=["shop/"])
    plan = Plan(tasks=[task], contracts=contracts)
    result = scaffold(plan, {}, empty=False)
    assert result.errors == []
    files = dict(result.files)
    stubs = verify(plan, files.__getitem__, files)
    assert len(stubs) == 1 + len(members), "each stub is told, and nothing else"
    files["shop/a.py"] = files["shop/a.py"].replace(b"raise NotImplementedError", b"return self_made()")
    assert verify(plan, files.__getitem__, files) == []
    again = scaffold(plan, files, empty=False)
    assert again.files == {}, "nothing is missing any more"
    assert all(classify(c, files["shop/a.py"].decode()) == "additive" for c in contracts)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.sampled_from(
            [
                "class A:",
                "    def f(self",
                "):",
                " ...",
                "\n",
                "\n    ",
                "def g(",
                "x: B",
                "@d\n",
                "import a",
                '"""',
                "\r",
                "\x0c",
                "é",
                "\\",
            ]
        )
        | st.text(max_size=5),
        max_size=12,
    ).map("".join),
    st.sampled_from(["function", "class", "data-model", "route", "file"]),
    st.sampled_from(["a.py", "a.ts", "a.go", "a.js", "a.sql"]),
    st.none()
    | st.sampled_from([b"", b"x = 1\n", b"# only\n", b"class A: pass\n", b"\xff\xfe", b"package a\n"]),
)
def test_no_declaration_makes_it_raise(declaration, kind, path, there):
    contract = Contract(id="c", path=path, kind=kind, declaration=declaration)
    plan = Plan(tasks=[Task(id="t", title="t", instructions="x", provides=["c"])], contracts=[contract])
    existing = {} if there is None else {path: there}
    result = scaffold(plan, existing, empty=there is None)
    assert not (result.errors and result.files)
    files = {path: b"", **existing, **result.files}
    verify(plan, files.__getitem__, files)
    classify(contract, declaration + "\n")
