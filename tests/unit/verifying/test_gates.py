import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swarmrun.api.run import Gate
from swarmrun.verifying.gates import (
    NO_TESTS,
    GateOutcome,
    compare,
    detect,
    failing_required,
    new_failures,
    parse,
    without_empty,
)

PYTEST = Gate(name="pytest", command="python3 -m pytest -q")


def run(command: list[str], folder: Path) -> tuple[str, int]:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout, done.returncode


def detected(tree: dict[str, str]) -> dict[str, Gate]:
    return {gate.name: gate for gate in detect(list(tree), lambda path: tree[path].encode())}


# ---------------------------------------------------------------- what the repository shows


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        ({"tests/test_a.py": "", "a.py": ""}, ["pytest", "ruff"]),
        ({"a.py": ""}, ["ruff"]),
        ({"pyproject.toml": "[tool.pytest.ini_options]\n"}, ["pytest"]),
        ({"package.json": '{"scripts": {"test": "vitest run"}}'}, ["npm-test"]),
        ({"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'}, []),
        ({"package.json": "{broken"}, []),
        ({"go.mod": "module x", "a.go": ""}, ["go-test", "go-vet"]),
        ({"Cargo.toml": ""}, ["cargo-test"]),
        ({"Makefile": "all:\n\ntest: all\n\t./run\n", "a.c": ""}, ["make-test"]),
        ({"Makefile": "test:\n\tpytest\n", "tests/test_a.py": ""}, ["pytest", "ruff"]),
        ({"README.md": ""}, []),
    ],
)
def test_gates_are_told_from_the_files(tree, names):
    assert list(detected(tree)) == names


def test_ruff_is_required_only_where_it_is_configured():
    unasked = detected({"a.py": ""})["ruff"]
    assert not unasked.required
    assert not unasked.fix, "files that the run has not touched stay as they are"
    gate = detected({"a.py": "", "pyproject.toml": "[tool.ruff]\n"})["ruff"]
    assert gate.required
    assert "check --fix" in gate.fix
    assert "unsafe" not in gate.fix


def test_the_detected_pytest_command_works_where_pytest_is_only_on_the_path(tmp_path: Path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tools / "pytest").write_text("#!/bin/sh\necho ran $@\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    command = detected({"tests/test_a.py": ""})["pytest"].command
    done = subprocess.run(
        ["/bin/sh", "-c", command], env={"PATH": str(tools)}, capture_output=True, text=True
    )
    assert done.stdout.startswith("ran -q")


# ---------------------------------------------------------------- what tools print


BROKEN = """\
import unittest
import pytest

class T(unittest.TestCase):
    def test_f(self): self.assertEqual(1, 2)

@pytest.mark.parametrize("x", ["a - b", "[c]"])
def test_p(x): assert [x] == [1]

@pytest.fixture
def broken(): raise ValueError("x - y")
def test_fix(broken): pass
def test_fine(): pass
"""


def test_pytest_failures_are_told_by_id(tmp_path: Path):
    (tmp_path / "test_a.py").write_text(BROKEN)
    output, code = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], tmp_path)
    outcome = parse(PYTEST, output, code)
    assert outcome.why == "tests"
    assert sorted(outcome.failures) == [
        "ERROR test_a.py::test_fix",
        "test_a.py::T::test_f",
        "test_a.py::test_p[[c]]",
        "test_a.py::test_p[a - b]",
    ]
    verbose, code = run([sys.executable, "-m", "pytest", "-v", "-r", "N", "-p", "no:cacheprovider"], tmp_path)
    assert "test_a.py::T::test_f" in parse(PYTEST, verbose, code).failures
    plain, code = run([sys.executable, "-m", "unittest", "test_a"], tmp_path)
    assert parse(Gate(name="u", command="make test"), plain, code).failures == ["test_a.T.test_f"]


def test_a_collection_error_says_that_it_hides_tests(tmp_path: Path):
    (tmp_path / "test_b.py").write_text("import nothing_here\n")
    output, code = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], tmp_path)
    outcome = parse(PYTEST, output, code)
    assert (outcome.why, outcome.failures) == ("collection", ["ERROR test_b.py"])
    assert "hide their tests" in outcome.message


def test_no_tests_at_all_is_a_failure_of_its_own(tmp_path: Path):
    output, code = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], tmp_path)
    assert parse(PYTEST, output, code).failures == ["no tests were collected"]


@pytest.mark.parametrize("style", ["concise", "full"])
def test_ruff_findings_compare_without_line_numbers(tmp_path: Path, style):
    gate = Gate(name="ruff", command="ruff check .")
    ruff = [
        str(Path(sys.executable).parent / "ruff"),
        "check",
        "--isolated",
        "--select=F",
        "--no-cache",
        "--output-format",
        style,
        ".",
    ]
    (tmp_path / "a.py").write_text("import os\n")
    before = parse(gate, *run(ruff, tmp_path))
    (tmp_path / "a.py").write_text("\n\n# moved\nimport os\nprint(undefined)\nprint(undefined)\n")
    after = parse(gate, *run(ruff, tmp_path))
    assert before.failures == ["a.py F401 os imported but unused"]
    assert sorted(new_failures([before], [after])["ruff"]) == [
        "a.py F821 Undefined name undefined",
        "a.py F821 Undefined name undefined #2",
    ]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_nodes_own_runner_is_read(tmp_path: Path):
    (tmp_path / "a.test.mjs").write_text(
        "import test, {describe, it} from 'node:test'; import assert from 'node:assert';\n"
        "describe('links', () => { it('adds one', () => assert.equal(1, 2)); it('fine', () => {}); });\n"
    )
    for reporter in ("tap", "spec"):
        outcome = parse(
            Gate(name="npm-test", command="npm test"),
            *run(["node", "--test", f"--test-reporter={reporter}"], tmp_path),
        )
        assert "adds one" in outcome.failures
        assert "fine" not in outcome.failures


RECORDED = {
    "jest": (
        "npm test",
        "FAIL src/a.test.js\n  links\n    ✕ adds one (3 ms)\n\n  ● links › adds one\n\n    expect\n\nTests: 1 failed\n",
        ["links › adds one"],
    ),
    "vitest": (
        "npx vitest run",
        " ❯ src/a.test.ts (2 tests | 1 failed) 5ms\n\n FAIL  src/a.test.ts > links > adds one\nAssertionError: x\n",
        ["src/a.test.ts > links > adds one"],
    ),
    "mocha": (
        "npm test",
        "  1 passing (4ms)\n  1 failing\n\n  1) links\n       adds one:\n\n      AssertionError: x\n      at Context\n",
        ["links adds one"],
    ),
    "go test": (
        "go test ./...",
        "# ex/b [ex/b.test]\nb/b_test.go:3:28: undefined: thing\n--- FAIL: TestBad (0.00s)\n    a_test.go:3: nope\n"
        "    --- FAIL: TestBad/sub (0.00s)\nFAIL\nFAIL\tex\t0.004s\nFAIL\tex/b [build failed]\nFAIL\n",
        ["ex.TestBad", "ex.TestBad/sub", "ex/b [build failed]"],
    ),
    "go vet": (
        "go vet ./...",
        "# ex/b\n# [ex/b]\nvet: b/b_test.go:3:28: undefined: thing\n",
        ["b/b_test.go undefined: thing"],
    ),
    "cargo": (
        "cargo test",
        "test tests::bad ... FAILED\ntest tests::ok ... ok\n\nfailures:\n    tests::bad\n\ntest result: FAILED.\n",
        ["tests::bad"],
    ),
    "cargo --quiet": (
        "cargo test -q",
        "\nfailures:\n    tests::bad\n    tests::worse\n\ntest result: FAILED.\n",
        ["tests::bad", "tests::worse"],
    ),
    "rustc": (
        "cargo test",
        "error[E0308]: mismatched types\n --> src/lib.rs:3:17\n  |\n",
        ["src/lib.rs E0308 mismatched types"],
    ),
    "tsc": (
        "npx tsc -p .",
        "src/x.ts(3,5): error TS2304: No 'a'.\n\x1b[96msrc/y.ts\x1b[0m:3:5 - \x1b[91merror\x1b[0m TS2322: No.\n",
        ["src/x.ts TS2304 No 'a'.", "src/y.ts TS2322 No."],
    ),
    "mypy": ("mypy .", "a.py:3: error: No.  [attr]\nFound 1 error\n", ["a.py No.  [attr]"]),
    "unittest with subtests": (
        "python -m unittest",
        "FAIL: test_s (test_a.T.test_s) (i=1)\nERROR: test_e (test_a.T)\n",
        ["test_a.T.test_s [i=1]", "test_a.T.test_e"],
    ),
}


@pytest.mark.parametrize("tool", RECORDED)
def test_what_tools_print_is_read(tool):
    command, output, failures = RECORDED[tool]
    assert parse(Gate(name="g", command=command), output, 1).failures == failures
    assert set(failures) <= set(parse(Gate(name="g", command="make check"), output, 1).failures), (
        "behind a wrapper"
    )


def test_an_unknown_tool_is_one_failure_that_compares():
    gate = Gate(name="lint", command="./check.sh")
    first, second = parse(gate, "3 problems in 1.2 s\n", 2), parse(gate, "4 problems in 0.9 s\n", 2)
    assert first.failures == second.failures == ["exit 2"]
    assert first.message == "exit 2: 3 problems in 1.2 s"


@pytest.mark.parametrize(
    ("output", "code", "why", "failure"),
    [
        ("/bin/sh: 1: gofmt: not found\n", 127, "missing", "cannot run"),
        ("bash: line 1: nope: command not found\n", 127, "missing", "cannot run"),
        ("/usr/bin/python3: No module named pytest\n", 1, "missing", "cannot run"),
        ("...", None, "timeout", "timed out"),
        ("ERROR: file or directory not found: x\n", 4, "setup", "exit 4"),
    ],
)
def test_a_gate_that_could_not_look_says_so(output, code, why, failure):
    outcome = parse(PYTEST, output, code)
    assert (outcome.why, outcome.failures) == (why, [failure])
    assert outcome.message


def test_a_failing_import_in_a_test_is_no_missing_tool():
    output = "E   ModuleNotFoundError: No module named 'shop'\n=== short test summary info ===\nERROR tests/test_a.py\n"
    assert parse(PYTEST, output, 2).failures == ["ERROR tests/test_a.py"]


# ---------------------------------------------------------------- what is new


def outcome(*failures, gate="pytest", why="tests", required=True):
    return GateOutcome(gate, not failures, list(failures), why if failures else "", "", required)


def test_only_failures_that_the_base_did_not_have_count():
    (gate,) = compare([outcome("old", "mended")], [outcome("old", "fresh")])
    assert (gate.passed, gate.new_failures, gate.baseline_failures) == (False, ["fresh"], ["old"])
    (gate,) = compare([outcome("old")], [outcome("old")])
    assert gate.passed


def test_a_new_failure_that_flips_is_flaky():
    (gate,) = compare([], [outcome("a", "b")], [outcome("b", "c")])
    assert (gate.passed, gate.new_failures, gate.flaky) == (False, ["b"], ["a"])
    (gate,) = compare([], [outcome("a")], [outcome()])
    assert (gate.passed, gate.flaky) == (True, ["a"])


def test_a_second_run_that_could_not_look_clears_nothing():
    (gate,) = compare([], [outcome("a")], [outcome("timed out", why="timeout")])
    assert gate.new_failures == ["a"]


def test_a_base_that_hid_tests_is_named_beside_new_failures():
    (gate,) = compare([outcome("ERROR x.py", why="collection")], [outcome("x.py::test")])
    assert gate.message.startswith("the base hid tests")


def test_only_required_gates_cap():
    gates = compare([], [outcome("a", gate="ruff", required=False), outcome("b", gate="pytest")])
    assert failing_required(gates) == ["pytest"]


def test_a_status_stays_bounded():
    (gate,) = compare([], [outcome(*(f"{n}" + "x" * 1000 for n in range(500)))])
    assert len(gate.new_failures) == 21
    assert gate.new_failures[-1] == "… and 480 more"


def test_a_detected_gate_without_tests_fails_nobody_unless_the_base_had_some():
    empty = parse(PYTEST, "no tests ran", 5)
    kept = GateOutcome("ruff", False, ["F401"], "tests")
    assert not new_failures([], without_empty([], [empty]))
    assert new_failures([], without_empty([], [kept])) == {"ruff": ["F401"]}
    assert not new_failures([empty], without_empty([empty], [empty]))
    had = parse(PYTEST, "1 passed", 0)
    assert new_failures([had], without_empty([had], [empty])) == {PYTEST.name: [NO_TESTS]}
