"""The example of the first page, from an empty repository to a published branch, and every command on it."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from lab import Lab, git, tree

EXAMPLE = Path(__file__).parents[2] / "examples" / "url-shortener"
NAME, BRANCH = "url-shortener", "swarm/url-shortener"


class Demo:
    """One run of the example in a place of its own."""

    def __init__(self, root: Path, *options: str) -> None:
        self.lab = Lab(root)
        self.file = str(shutil.copytree(EXAMPLE, root / "examples" / "url-shortener") / "run.yaml")
        # Where run.yaml says that the repository is.
        (root / "build" / "demo").mkdir(parents=True)
        self.bare = self.lab.repository("build/demo/url-shortener")
        self.done = self.lab.run("run", "-f", self.file, *options, expect=None, patience=240)

    def pushes(self) -> list[str]:
        return self.lab.pushes("build/demo/url-shortener")

    def asked(self) -> int:
        """Requests that the recorded models were sent."""
        return len((self.lab.directory(NAME) / "cassette.log").read_text().splitlines())


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    one = Demo(tmp_path_factory.mktemp("demo"))
    yield one
    one.lab.close()


def test_an_empty_repository_ends_with_one_branch_whose_tests_pass(demo, tmp_path):
    assert demo.done.code == 0, demo.done
    # The base branch of an empty repository, then the result: nothing else, and each once.
    assert demo.pushes() == ["refs/heads/main", f"refs/heads/{BRANCH}"]
    git("clone", "-q", "-b", BRANCH, str(demo.bare), str(tmp_path / "out"))
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
    )
    assert tests.returncode == 0, tests.stdout
    written = {path.name for path in (tmp_path / "out" / "tests").glob("test_*.py")}
    assert written >= {"test_api.py", "test_cli.py", "test_storage.py", "test_whole_way.py"}


@pytest.mark.parametrize(
    ("fault", "source"),
    [
        ('task id 1 became "1"', "measured"),
        ("role 'test_writer' became test-writer", "measured"),
        ("PhantomAgent", "measured"),
        ("shortener/models.py resolved by Integrator", "measured"),
        ("shortener/models.py equals ours", "measured"),
        ("Stubs left: shortener/models.py", "measured"),
        ("missing import", "scripted"),
        ("judge, round 0 43", "scripted"),
        ("RateLimited", "measured"),
        ("StreamCutOff", "measured"),
        ("arguments are not valid JSON", "measured"),
    ],
)
def test_every_planted_fault_is_named_in_the_final_table_with_its_source(demo, fault, source):
    table = demo.done.out[demo.done.out.index("\nwhat ") :]
    rows = [" ".join(line.split()) for line in table.splitlines()]
    named = [row for row in rows if fault in row]
    assert named, f"{fault!r} is not in\n{table}"
    assert all(row.endswith(source) for row in named), named


def test_the_fixer_lifts_the_score_over_85(demo):
    scores = [j["score"] for j in demo.lab.status(NAME)["judgements"]]
    assert scores[0] == 43
    assert scores[-1] > 85


def test_the_table_ends_with_commands_that_show_the_diff_as_they_stand(demo):
    for command in demo.done.out.rstrip().splitlines()[-2:]:
        shown = subprocess.run(
            shlex.split(command), capture_output=True, text=True, cwd="/", env=demo.lab.environment()
        )
        assert "shortener/storage.py" in shown.stdout, f"{command}\n{shown.stderr}"


def test_every_commit_names_run_and_spec_and_those_of_tasks_their_task(demo):
    base = demo.lab.status(NAME)["result"]["baseCommit"]
    commits = git("-C", str(demo.bare), "log", "--format=%B%x00", f"{base}..{BRANCH}").split("\0")
    commits = [c.strip() for c in commits if c.strip()]
    assert len(commits) >= 8
    trailers = [dict(line.split(": ", 1) for line in c.splitlines() if ": " in line) for c in commits]
    runs = {value for t in trailers for key, value in t.items() if key.lower().endswith("run")}
    assert len(runs) == 1
    tasks = {value for t in trailers for key, value in t.items() if key.lower().endswith("task")}
    assert {"1", "2", "3", "4"} <= tasks


def test_a_phantom_leaves_nothing_behind_and_nothing_runs_after_the_end(demo):
    assert demo.lab.left_behind() == []
    assert list(demo.lab.directory(NAME).glob("sandboxes/*")) == []


def test_describe_tells_the_story(demo):
    story = demo.lab.run("describe", NAME).out
    for said in ("Succeeded", "models.py", "PhantomAgent", "43", BRANCH):
        assert said in story


def test_logs_show_what_an_agent_did_call_by_call(demo):
    assert "Published" in demo.lab.run("logs", NAME).out
    log = demo.lab.run("logs", NAME, "2").out
    for said in ("write_file", "shortener/api.py", "run_checks", "finish"):
        assert said in log


def test_a_task_that_is_not_there_is_an_error_with_the_nearest(demo):
    done = demo.lab.run("logs", NAME, "22", expect=1)
    assert "'22'" in done.err
    assert "did you mean 2?" in done.err


def test_diff_shows_the_whole_and_one_task(demo):
    assert "class Storage" in demo.lab.run("diff", NAME).out
    one = demo.lab.run("diff", NAME, "3").out
    assert "shortener/cli.py" in one
    assert "b/shortener/api.py" not in one


def test_get_gives_the_resource_as_yaml_and_json_within_64_kib(demo):
    as_yaml = yaml.safe_load(demo.lab.run("get", NAME).out)
    as_json = json.loads(demo.lab.run("get", NAME, "-o", "json").out)
    assert as_yaml == as_json
    assert as_json["kind"] == "SwarmRun"
    status = as_json["status"]
    assert status["phase"] == "Succeeded"
    assert status["progress"] == "4/4"
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert conditions["Ready"] == conditions["Succeeded"] == conditions["Finished"] == "True"
    assert len(json.dumps(status)) < 64 * 1024


def test_list_shows_it(demo):
    rows = demo.lab.run("list").out.splitlines()
    assert any(NAME in row and "Succeeded" in row and BRANCH in row for row in rows)


def test_the_same_run_again_says_that_it_has_ended_and_does_nothing(demo):
    before = demo.asked(), demo.pushes()
    again = demo.lab.run("run", "-f", demo.file)
    assert "ended before" in again.err
    assert (demo.asked(), demo.pushes()) == before


def test_the_tree_is_the_same_whatever_the_timing_and_json_is_all_there_is_on_standard_output(demo, tmp_path):
    one_after_the_other = Demo(tmp_path, "--parallelism", "1", "-o", "json")
    assert one_after_the_other.done.code == 0, one_after_the_other.done
    resource = json.loads(one_after_the_other.done.out)
    assert resource["status"]["result"]["branch"] == BRANCH
    assert tree(one_after_the_other.bare, BRANCH) == tree(demo.bare, BRANCH)


def test_a_deleted_run_finds_its_result_on_the_remote_and_pays_nothing(demo):
    """The last one: it takes the run away."""
    before = demo.pushes()
    demo.lab.run("delete", NAME)
    assert not demo.lab.directory(NAME).exists()
    assert NAME not in demo.lab.run("list").out
    again = demo.lab.run("run", "-f", demo.file)
    assert "AlreadyPublished" in again.out
    assert demo.pushes() == before
    assert demo.asked() == 0
