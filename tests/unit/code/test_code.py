"""What is read out of sources, in several languages, and that odd bytes do no harm."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmrun.code.imports import imports, unresolved
from swarmrun.code.languages import language
from swarmrun.code.names import definition_counts, undefined_names
from swarmrun.code.parse import supported, syntax_errors
from swarmrun.code.stubs import stubs
from swarmrun.code.symbols import symbols
from swarmrun.code.tests import is_test
from swarmrun.code.tests import test_cases as cases_of

PYTHON = b'''import a.b, c as d
from . import x
# lead
@dec
class K(B, metaclass=M):
    """doc"""
    f: int = 1
    def __init__(self): self.q = 1
    async def m(self, a, *, b=1) -> int:
        "d"
        # c
        return 1
V, W = 1, 2
if x:
    def g(): pass
'''


def named(path: str, source: bytes):
    return {s.name: s for s in symbols(path, source)}


def test_python_symbols_have_spans_kinds_and_signatures():
    found = named("m.py", PYTHON)
    kinds = {name: s.kind for name, s in found.items()}
    assert kinds == {
        "a": "import", "d": "import", "x": "import", "K": "class", "K.f": "field", "K.q": "field",
        "K.__init__": "method", "K.m": "method", "V": "variable", "W": "variable", "g": "function",
    }  # fmt: skip
    assert found["K"].lines == (3, 12)
    assert PYTHON[slice(*found["K"].bytes)].startswith(b"# lead\n@dec\nclass K")
    assert found["K"].signature == "class K(B, metaclass=M)"
    assert found["K.m"].signature == "async def m(self, a, *, b=1) -> int"
    assert found["K.m"].body_size == 1


def test_a_body_hash_does_not_see_layout_comments_or_docstring():
    one = named("m.py", b'def f(a):\n    """One."""\n    return a  \n')["f"]
    other = named("m.py", b"def f(a):\n    # why\n\n    return  a\n")["f"]
    assert one.body_hash == other.body_hash


TYPESCRIPT = b"""import { a } from "./a";
// doc
export interface Foo { x: number; m(a: string): void }
export enum E { A, B }
@Dec()
export class C<T> extends B {
  private f: number = 1;
  static async m(a: number, b = 2): Promise<void> { return; }
}
export const h = async (x: number): Promise<number> => { return x };
describe("x", () => { it("y", () => { expect(1).toBe(2) }) })
"""


def test_typescript_symbols():
    found = named("m.ts", TYPESCRIPT)
    assert {n: s.kind for n, s in found.items() if s.kind != "import"} == {
        "Foo": "type", "Foo.x": "field", "Foo.m": "method", "E": "type", "C": "class", "C.f": "field",
        "C.m": "method", "h": "function", "describe x": "function", "describe x > it y": "function",
    }  # fmt: skip
    assert found["C.m"].signature == "static async m(a: number, b = 2): Promise<void>"
    assert found["h"].signature == "h = async (x: number): Promise<number>"
    assert found["Foo"].lines == (2, 3)


def test_go_symbols():
    source = (
        b"package x\n\n// T is\ntype T struct {\n\tA int\n\tB, C string\n}\n\n"
        b"func (t *T) M(a int) error {\n\treturn nil\n}\n\nconst (\n\tX = 1\n)\n"
    )
    found = named("m.go", source)
    assert {n: s.kind for n, s in found.items()} == {
        "T": "type", "T.A": "field", "T.B": "field", "T.C": "field", "T.M": "method", "X": "variable",
    }  # fmt: skip
    assert found["T.M"].signature == "func (t *T) M(a int) error"
    assert found["T"].lines == (3, 7)


@pytest.mark.parametrize(
    ("path", "source", "line"),
    [
        ("m.py", b"x = 1\ndef f(:\n", 2),
        ("m.py", b"def f(a, a):\n    return a\n", 1),
        ("m.py", b"return 1\n", 1),
        ("m.ts", b"const a = 1;\nfunction (\n", 2),
        ("m.go", b"package x\n\nfunc F( {\n", 3),
        ("m.json", b'{"a": 1,\n}', 2),
        ("m.toml", b"a = 1\nb =\n", 2),
        ("m.yaml", b"a: [1\nb: 2\n", 2),
    ],
)
def test_syntax_errors_name_the_line(path, source, line):
    (first, *_) = syntax_errors(path, source)
    assert first.line == line


def test_unknown_languages_are_not_judged():
    assert not supported("m.xyz")
    assert syntax_errors("m.xyz", b"<<<") == []
    assert language("Makefile") == ""


def test_python_stubs_and_what_is_none():
    source = b'''
class P(Protocol):
    def p(self): ...
class A:
    @abstractmethod
    def a(self): ...
    def b(self):
        """Doc."""
        raise NotImplementedError("later")
    def c(self): pass
    def d(self):
        return None
    def e(self):
        pass  # TODO
    def f(self):
        return 1
'''
    assert {s.name: s.certain for s in stubs("m.py", source)} == {
        "A.b": True, "A.c": False, "A.d": False, "A.e": True,
    }  # fmt: skip
    assert stubs("m.pyi", source) == []


def test_typescript_and_go_stubs():
    typescript = (
        b'function f(): void { throw new Error("not implemented"); }\n'
        b"function g() { return null; }\nfunction h() { return 5; }\n"
        b'function i() { throw new Error("bad input"); }\n'
    )
    assert {s.name: s.certain for s in stubs("m.ts", typescript)} == {"f": True, "g": False}
    go = (
        b'package x\nfunc A() { panic("not implemented") }\n'
        b"func B() error { return nil }\nfunc C() int { return a }\n"
    )
    assert {s.name: s.certain for s in stubs("m.go", go)} == {"A": True, "B": False}


def test_test_files_by_their_names():
    assert all(
        map(
            is_test,
            ["tests/a.py", "test_a.py", "a_test.go", "a.spec.ts", "src/__tests__/a.tsx", "conftest.py"],
        )
    )
    assert not any(map(is_test, ["src/a.py", "latest.py", "tests/data.json", "contest.ts"]))


def test_python_test_cases_count_what_can_fail():
    source = b"""
def test_a():
    assert f() == 1
    with pytest.raises(KeyError):
        g()
    mock.assert_called_once()

def test_b():
    assert True
    return
    assert f()

@pytest.mark.skip
def test_c():
    assert f()

def test_d():
    pytest.skip("x")

class TestX:
    def test_e(self):
        with pytest.raises(Exception):
            g()
"""
    found = {c.name: (c.assertions, c.skipped, c.broad) for c in cases_of("test_m.py", source)}
    assert found == {
        "test_a": (3, False, 0), "test_b": (0, False, 0), "test_c": (1, True, 0), "test_d": (0, True, 0),
        "TestX.test_e": (1, False, 1),
    }  # fmt: skip


def test_script_and_go_test_cases():
    script = b'describe("x", () => { it("y", () => { expect(1).toBe(2) }); it.skip("z", () => {}) })\n'
    assert [(c.name, c.assertions, c.skipped) for c in cases_of("m.test.ts", script)] == [
        ("describe x > it y", 1, False), ("describe x > it z", 0, True),
    ]  # fmt: skip
    go = b'package x\nfunc TestA(t *testing.T) {\n\tif f() != 1 {\n\t\tt.Fatal("x")\n\t}\n}\nfunc helper() {}\n'
    assert [(c.name, c.assertions) for c in cases_of("m_test.go", go)] == [("TestA", 1)]


def test_names_used_and_nowhere_bound():
    source = (
        b'import os\n__all__ = ["gone", "f"]\n\n\ndef f(a):\n'
        b"    return a + os.sep + missing\n\n\nclass C:\n    x = 1\n\n"
        b"    def m(self):\n        return [y for y in self.z if y]\n"
    )
    assert dict(undefined_names("m.py", source)) == {"gone": 2, "missing": 6}
    assert undefined_names("m.py", b"from a import *\nx = y\n") == {}
    assert undefined_names("m.py", b"def f():\n    global g\n    g = 1\n\n\ndef h():\n    return g\n") == {}


def test_definitions_that_hide_each_other_are_counted():
    source = (
        b"def f(): pass\ndef f(): pass\nclass C:\n    @property\n"
        b"    def x(self): pass\n    @x.setter\n    def x(self, v): pass\n"
    )
    assert definition_counts("m.py", source)["f"] == 2
    assert definition_counts("m.py", source).get("C.x", 0) <= 1
    assert definition_counts("m.go", b"package x\nfunc F() { a() }\nfunc F() { b() }\n")["F"] == 2


FILES = {
    "src/app/__init__.py": b"from .store import Store\n",
    "src/app/store.py": b"class Store:\n    pass\n",
    "src/app/sub/__init__.py": b"",
    "src/app/sub/deep.py": b"from ..store import Store, Gone\nfrom ..missing import x\nimport requests\n",
    "tests/test_a.py": (
        b"from app import Store, store\nfrom app.sub import deep, nothing\n"
        b"import app.store.no\ntry:\n    import app.maybe\nexcept ImportError:\n"
        b"    pass\n"
    ),
}


def test_imports_between_the_repositorys_modules_are_resolved():
    def problems(path: str) -> list[tuple[int, str]]:
        found = unresolved(path, FILES[path], list(FILES), FILES.__getitem__)
        return [(p.line, p.message) for p in found]

    assert [line for line, _ in problems("src/app/sub/deep.py")] == [1, 2]
    assert "`Gone` is not defined in src/app/store.py" in problems("src/app/sub/deep.py")[0][1]
    assert [line for line, _ in problems("tests/test_a.py")] == [2, 3]
    assert problems("src/app/__init__.py") == []


def test_imports_inside_functions_and_conditions_are_listed():
    found = imports(b"import a\nif x:\n    import b\ndef f():\n    from . import c\n")
    assert [(i.module, i.level, i.optional) for i in found] == [
        ("a", 0, False),
        ("b", 0, True),
        ("", 1, False),
    ]


PIECES = [b"def f():\n", b"    pass\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"class C", b"{"]
PIECES += [b"# coding: latin-1\n", b"\xe4 = 1\n", b"\x0c", b"func F() {\n", b"'''", b"export ", b"@x\n"]
ODD = st.one_of(st.binary(max_size=80), st.lists(st.sampled_from(PIECES), max_size=10).map(b"".join))
PATHS = st.sampled_from(
    ["m.py", "m.ts", "m.tsx", "m.js", "m.go", "m.json", "m.toml", "m.yaml", "m.rs", "m.bin"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(PATHS, ODD)
def test_nothing_crashes_on_any_bytes(path, data):
    for symbol in symbols(path, data):
        assert 0 <= symbol.bytes[0] <= symbol.bytes[1] <= len(data)
        assert 1 <= symbol.lines[0] <= symbol.lines[1]
    syntax_errors(path, data)
    stubs(path, data)
    cases_of(path, data)
    undefined_names(path, data)
    definition_counts(path, data)
    imports(data)


def test_ten_megabytes_are_not_read():
    huge = b"x = 1\n" * 1_700_000
    assert symbols("m.py", huge) == ()
    assert syntax_errors("m.py", huge) == []
