# Sources stand on one line, as they are compared.
# ruff: noqa: E501
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmrun.planning.amend import classify
from swarmrun.planning.annotations import normal
from swarmrun.planning.contracts import verify
from swarmrun.planning.routes import canonical, serves


@pytest.fixture
def breaches(plan_of, task_of, function):
    """Messages for one contract against files (text by path, or the text of shop/a.py)."""

    def check(declaration, files, *, kind="function", path="shop/a.py", **more):
        contract = function(declaration, kind=kind, path=path, **more)
        plan = plan_of(task_of("a", provides=["c"], owned_paths=["shop/"]), contracts=(contract,))
        tree = {path: files} if isinstance(files, str) else files
        found = verify(plan, lambda p: tree[p].encode(), list(tree))
        assert all(b.contract == "c" and b.task == "a" for b in found if b.contract)
        return [b.message for b in found]

    return check


F = "def f(a: int, b: str = 'x', *, c: bool = False) -> Optional[Link]: ..."


@pytest.mark.parametrize(
    "code",
    [
        "def f(a: int, b: str = 'x', *, c: bool = False) -> 'Link | None': return 1",
        "def f(a, b='x', *, c=False): return 1",
        "def f(a: int, b: str = 'x', c: bool = False, more=None) -> typing.Union[None, models.Link]: return 1",
        "def f(a: int = 0, b: str = 'x', *, d=1, c: bool = False) -> Link | None: return 1",
        "def f(*args, **kwargs): return 1",
        "if True:\n    def f(a: int, b: str = 'x', *, c: bool = False): return 1",
        "f = make()",
    ],
)
def test_what_callers_can_use_as_declared_keeps_the_contract(breaches, code):
    assert breaches(F, code) == []


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "def g(): pass",
            "`def f(a: int, b: str='x', *, c: bool=False) -> Optional[Link]` is missing in shop/a.py",
        ),
        ("async def f(a, b='x', *, c=False): return 1", "`f` is not `def`"),
        ("def f(x, b='x', *, c=False): return 1", "`f` calls parameter 1 `x` instead of `a`"),
        ("def f(a, *, c=False): return 1", "`f` does not take `b`"),
        ("def f(a, b, *, c=False): return 1", "`f` needs `b`, which was declared optional"),
        ("def f(a, b='y', *, c=False): return 1", "`f` has `b='y'` instead of `b='x'`"),
        ("def f(a, b='x'): return 1", "`f` does not take `c` by name"),
        ("def f(a, b='x', d=1, *, c=False, e): return 1", "`f` needs `e`, which callers do not know"),
        ("def f(a: str, b='x', *, c=False): return 1", "`f` takes `a: str` instead of `int`"),
        ("def f(a, b='x', *, c=False) -> Link: return 1", "`f` returns `Link` instead of `Optional[Link]`"),
        ("def f(b='x', a=1, *, c=False): return 1", "`f` takes `a` in another place"),
        ("def f(a, *, b='x', c=False): return 1", "`f` does not take `b` by position"),
        ("def f(a, /, b='x', *, c=False): return 1", "`f` takes `a` by position only"),
        ("class f: pass", "`f` is a class, declared as a function"),
        (F.replace("...", "raise NotImplementedError"), "`f` is still a stub (`raise NotImplementedError`)"),
        ("def f(a, b='x', *, c=False):\n    raise NotImplementedError('TODO')", "`f` is still a stub"),
        ("def f(:", "shop/a.py does not parse"),
    ],
)
def test_what_callers_cannot_rely_on_is_a_breach(breaches, code, problem):
    assert any(m.startswith(problem) for m in breaches(F, code)), breaches(F, code)


def test_a_missing_file_is_a_breach(breaches):
    assert breaches(F, {"shop/b.py": ""}) == ["shop/a.py does not exist"]


def test_a_definition_is_followed_through_imports(breaches):
    tree = {
        "shop/a.py": "from .deep import g as f\n",
        "shop/deep.py": "def g(b): return 1\n",
        "shop/__init__.py": "",
    }
    assert breaches("def f(a): ...", tree) == ["`f` calls parameter 1 `b` instead of `a`"]


STORE = "class Store(Base):\n    limit: int\n    def get(self, code: str) -> str: ...\n    @property\n    def size(self) -> int: ..."


@pytest.mark.parametrize(
    "code",
    [
        "class Store(Base):\n    limit: int = 3\n    def get(self, code: str) -> str: return code\n    size = cached_property(f)",
        "class Base:\n    limit: int\n    @property\n    def size(self): return 1\nclass Mid(Base):\n    def get(self, code): return code\nclass Store(Mid): pass",
        "class Store(Base):\n    def __init__(self):\n        self.limit = 1\n    def get(self, code): return 1\n    @property\n    def size(self): return 1",
        "from library import Store",
        "class Base(library.Thing): pass\nclass Store(Base): pass",
    ],
)
def test_a_class_may_keep_its_contract_in_many_ways(breaches, code):
    assert breaches(STORE, code, kind="class") == []


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "class Store:\n    limit: int\n    def get(self, code): return 1\n    @property\n    def size(self): return 1",
            "`Store` is not a `Base`",
        ),
        (
            "class Base: pass\nclass Store(Base):\n    limit: int\n    def get(self, code): return 1",
            "`Store.size` is missing",
        ),
        (
            "class Base: pass\nclass Store(Base):\n    limit: str\n    size: int\n    def get(self, code): return 1",
            "`Store.limit` is `str` instead of `int`",
        ),
        (
            "class Base: pass\nclass Store(Base):\n    limit: int\n    size: int\n    @staticmethod\n    def get(code): return 1",
            "`Store.get` is not a plain method",
        ),
        (
            "class Base: pass\nclass Store(Base):\n    limit: int\n    size: int\n    def get(self, key): return 1",
            "`Store.get` calls parameter 1 `key`",
        ),
        (
            "class Base: pass\nclass Store(Base):\n    limit: int\n    size: int\n    def get(self, code): ...",
            "`Store.get` is still a stub",
        ),
        ("def Store(): pass", "`Store` is a function, declared as a class"),
    ],
)
def test_a_class_that_lost_something_is_a_breach(breaches, code, problem):
    found = breaches(STORE, code, kind="class")
    assert any(m.startswith(problem) for m in found), found


MODEL = "@dataclass\nclass Link:\n    code: str\n    hits: int = 0"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("@dataclass\nclass Link:\n    code: str\n    owner: str\n    hits: int = 0", "`Link` needs `owner`"),
        ("@dataclass\nclass Link:\n    code: str\n    hits: int", "`Link.hits` has lost its default"),
        ("class Link:\n    code: str\n    hits: int = 0", "`Link` has lost its `dataclass`"),
        (
            "@dataclass\nclass Link:\n    hits: int = 0\n    code: str = ''",
            "the fields of `Link` stand in another order",
        ),
    ],
)
def test_a_data_model_is_frozen(breaches, code, problem):
    found = breaches(MODEL, code, kind="data-model")
    assert any(m.startswith(problem) for m in found), found
    assert breaches(MODEL, MODEL + "\n    extra: str = ''", kind="data-model") == []


def test_values_of_an_enum_count(breaches):
    declared = 'class Status(Enum):\n    OPEN = "open"'
    assert breaches(declared, 'class Status(Enum):\n    OPEN = "o"', kind="data-model") == [
        "`Status.OPEN` is 'o' instead of 'open'"
    ]


@pytest.mark.parametrize(
    "code",
    [
        '@app.post("/api/links/{code:path}")\nasync def f(): return 1',
        '@app.route("/api/links/<int:code>/", methods=["GET", "POST"])\ndef f(): return 1',
        'router = APIRouter(prefix="/api")\n@router.post("/links/{id}")\ndef f(): return 1',
        '@router.post("/links/{id}")\ndef f(): return 1',
        '@router.post("/")\ndef f(): return 1',
        'app.router.add_post("/api/links/{code}", handler)',
        'app.router.add_route("POST", "/api/links/{code}", handler)',
        'routes = [Route("/api/links/{code}", handler, methods=["POST"])]',
        'app.add_url_rule("/api/links/<code>", view_func=f, methods=["POST"])',
        'class H(BaseHTTPRequestHandler):\n    def do_POST(self):\n        if self.path.startswith("/api/links/"): pass',
        'def app(environ, start):\n    if method == "POST" and re.match(r"^/api/links/(\\w+)$", path): pass',
    ],
)
def test_a_route_is_found_however_it_is_registered(breaches, code):
    assert breaches("POST /api/links/{code}", code, kind="route") == []


@pytest.mark.parametrize(
    "code",
    [
        '@app.get("/api/links/{code}")\ndef f(): return 1',
        '@app.post("/api/users/{code}")\ndef f(): return 1',
        '@app.post("/links/{code}")\ndef f(): return 1',
        "# POST is served elsewhere\n",
        'class H(BaseHTTPRequestHandler):\n    def do_GET(self):\n        if self.path.startswith("/api/links/"): pass',
    ],
)
def test_a_route_that_is_not_served_is_a_breach(breaches, code):
    assert breaches("POST /api/links/{code}", code, kind="route") == [
        "shop/a.py does not serve POST /api/links/{}"
    ]


def test_routes_of_express_and_go_are_found():
    assert serves("a.ts", b"app.delete('/links/:id', (q, r) => {})", "DELETE", canonical("/links/{id}"))
    assert serves("a.go", b'mux.HandleFunc("GET /links/{id}", h)', "GET", canonical("/links/{id}"))
    assert not serves("a.go", b'mux.HandleFunc("GET /links/{id}", h)', "PUT", canonical("/links/{id}"))


def test_a_file_contract_keeps_its_content(breaches):
    assert breaches("x = 1", "x = 1\n", kind="file", path="conf.toml") == []
    assert breaches("x = 1", "x = 2\n", kind="file", path="conf.toml") == ["conf.toml was changed"]
    assert breaches("", "anything", kind="file", path="conf.toml") == []


TS = "export class Store {\n  get(code: string, deep?: boolean): Promise<Link>;\n}\nexport interface Link { code: string }"


@pytest.mark.parametrize(
    ("code", "problems"),
    [
        (
            "interface Link { code: string; more?: number }\nexport class Store {\n  async get(key: string, deep = false, x?: number): Promise<Link> { return go(); }\n}",
            [],
        ),
        (
            "interface Link { code: number }\nexport class Store {\n  get(code: string, deep?: boolean): Promise<Link> { return go(); }\n}",
            ["`Link.code` is"],
        ),
        (
            "interface Link { code: string }\nexport class Store {\n  get(code: string): Promise<Link> { return go(); }\n}",
            ["`Store.get` does not take `deep?: boolean`"],
        ),
        (
            "interface Link { code: string }\nexport class Store {\n  get(code: string, deep?: boolean): Promise<Link> { throw new Error('not implemented'); }\n}",
            ["`Store.get` is still a stub"],
        ),
        ("interface Link { code: string }", ["`Store` is missing", "`Store.get` is missing"]),
    ],
)
def test_typescript_is_compared_by_symbols(breaches, code, problems):
    found = breaches(TS, code, kind="class", path="src/store.ts")
    assert len(found) == len(problems)
    assert all(m.startswith(p) for m, p in zip(sorted(found), sorted(problems), strict=True)), found


def test_go_is_compared_by_types(breaches):
    declared = "func (s *Store) Get(code string, deep bool) (Link, error)"
    fine = "package s\nfunc (x *Store) Get(key string, d bool) (Link, error) { return x.m[key], nil }\n"
    assert breaches(declared, fine, path="s/s.go") == []
    assert breaches(declared, fine.replace("d bool", "d int"), path="s/s.go") == [
        "`Store.Get` takes `int` instead of `bool`"
    ]
    assert (
        breaches(
            "func Add(a, b string) error",
            "package s\nfunc Add(a string, b string) error { return run(a, b) }",
            path="s/s.go",
        )
        == []
    )


def test_imports_between_the_tasks_modules_must_resolve(plan_of, task_of):
    plan = plan_of(task_of("a", owned_paths=["shop/a.py"]), task_of("b", owned_paths=["shop/b.py"]))
    tree = {
        "shop/__init__.py": b"",
        "shop/a.py": b"import os\nfrom shop.b import here, \\\n    gone\nfrom .b import (here,\n  lost)\nfrom shop import b\n",
        "shop/b.py": b"def here(): return 1\n",
    }
    found = verify(plan, tree.__getitem__, list(tree))
    assert [(b.task, b.path, b.line) for b in found] == [("a", "shop/a.py", 2), ("a", "shop/a.py", 4)]
    assert "`gone` is not defined in shop/b.py" in found[0].message
    assert verify(plan, tree.__getitem__, list(tree), only_task="b") == []


def test_only_one_tasks_contracts_are_asked_for(plan_of, task_of, function):
    one, two = function("def f(): ...", id="one"), function("def g(): ...", id="two")
    plan = plan_of(task_of("a", provides=["one"]), task_of("b", provides=["two"]), contracts=(one, two))
    found = verify(plan, lambda _: b"", ["shop/a.py"], only_task="b")
    assert [(b.contract, b.task) for b in found] == [("two", "b")]
    assert str(found[0]) == "contract two: `def g()` is missing in shop/a.py (shop/a.py:1)"


@pytest.mark.parametrize(
    ("proposal", "kind"),
    [
        ("def f(a: int, b: str = 'x') -> int: ...", "additive"),
        ("```python\ndef f(a: int) -> int: ...\ndef g() -> None: ...\n```", "additive"),
        ("def f(a: int) -> int: ...", "additive"),
        ("def f(a: int, b: str) -> int: ...", "breaking"),
        ("def f(a: str) -> int: ...", "breaking"),
        ("def f(a) -> int: ...", "breaking"),
        ("def f(a: int): ...", "breaking"),
        ("def g(a: int) -> int: ...", "breaking"),
        ("Please add a parameter.", "breaking"),
        ("", "breaking"),
    ],
)
def test_a_proposal_is_additive_when_everything_can_be_used_as_before(function, proposal, kind):
    assert classify(function("def f(a: int) -> int: ..."), proposal) == kind


@pytest.mark.parametrize(("field", "kind"), [("\n    b: int = 0", "additive"), ("\n    b: int", "breaking")])
def test_a_new_field_is_additive_when_it_has_a_default(function, field, kind):
    model = "@dataclass\nclass M:\n    a: int"
    assert classify(function(model, kind="data-model"), model + field) == kind


def test_proposals_for_typescript_and_routes_are_compared_too(function):
    contract = function("export function f(a: string): number;", path="x.ts")
    assert classify(contract, "export function f(a: string, b?: number): number;") == "additive"
    assert classify(contract, "export function f(a: number): number;") == "breaking"
    route = function("POST /links", kind="route")
    assert classify(route, "PUT /links") == "breaking"


NAMES = st.sampled_from(["int", "str", "Link", "None"])
TYPES = st.recursive(
    NAMES,
    lambda inner: st.one_of(
        inner.map(lambda t: f"Optional[{t}]"),
        st.tuples(inner, inner).map(lambda t: f"Union[{t[0]}, {t[1]}]"),
        st.tuples(inner, inner).map(lambda t: f"{t[0]} | {t[1]}"),
        inner.map(lambda t: f"list[{t}]"),
        inner.map(lambda t: f"Dict[str, {t}]"),
    ),
    max_leaves=5,
)


@given(TYPES)
def test_an_annotation_in_its_normal_form_is_its_own(annotation):
    import ast

    once = normal(ast.parse(annotation, mode="eval").body)
    assert normal(ast.parse(once, mode="eval").body) == once
    assert normal(ast.Constant(annotation)) == once, "quoted or not"


def test_a_context_manager_is_annotated_as_the_iterator_it_is_made_from(breaches):
    code = "@contextmanager\ndef f() -> Iterator[int]:\n    yield 1"
    assert breaches("def f() -> AbstractContextManager[int]: ...", code) == []


def test_a_property_with_a_setter_is_still_a_property(breaches):
    declared = "class S:\n    @property\n    def size(self) -> int: ..."
    code = "class S:\n    @property\n    def size(self) -> int: return 1\n    @size.setter\n    def size(self, n): self.n = n"
    assert breaches(declared, code, kind="class") == []


def test_fifty_contracts_over_five_hundred_files_are_told_without_parsing_them_all(
    plan_of, task_of, function
):
    tree = {
        f"shop/m{n}.py": f"from shop.m{(n + 1) % 500} import C{(n + 1) % 500}\n\n\nclass C{n}:\n    x: int = 0\n".encode()
        for n in range(500)
    }
    tree["shop/__init__.py"] = b""
    tree["shop/m7.py"] = b"from shop.m8 import gone\n\n\nclass C7:\n    x: str = ''\n"
    contracts = tuple(
        function(f"class C{n}:\n    x: int", id=f"c{n}", path=f"shop/m{n}.py") for n in range(50)
    )
    plan = plan_of(
        task_of("a", owned_paths=["shop/"], provides=[c.id for c in contracts]), contracts=contracts
    )
    found = verify(plan, tree.__getitem__, list(tree))
    assert [b.message for b in found] == [
        "`C7.x` is `str` instead of `int`",
        "`from shop.m8 import gone`: `gone` is not defined in shop/m8.py",
    ]
