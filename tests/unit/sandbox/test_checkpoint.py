from __future__ import annotations

import os
import subprocess

import pytest

from swarmrun.errors import GitError, NotFound, ToolRejected


def test_a_checkpoint_carries_modes_links_binaries_renames_and_deletions(in_sandbox):
    async def scenario(box):
        base = await box.loaded(
            {
                "keep.py": b"k\n",
                "gone.py": b"g\n",
                "old/name.py": b"n\n" * 20,
                "f/x": b"",
                "bin": b"\0\xff\r\n",
            }
        )
        await box.client.exec(
            "rm gone.py; mkdir new; mv old/name.py new/name.py; chmod +x keep.py; ln -s keep.py link; "
            "ln -s /nowhere dangling; rm -r f; echo now a file > f; head -c 5000 /dev/urandom > random; "
            "touch $'n\\303\\244 me.txt'; mkfifo pipe"
        )
        point = await box.client.checkpoint(since=base, message="turn 1")
        assert point.changed
        files = box.receive(point.bundle, point.commit)
        assert sorted(files) == [
            "bin",
            "dangling",
            "f",
            "keep.py",
            "link",
            "new/name.py",
            "nä me.txt",
            "random",
        ]
        assert files["keep.py"] == ("100755", b"k\n")
        assert files["link"] == ("120000", b"keep.py")
        assert files["bin"] == ("100644", b"\0\xff\r\n")
        assert files["random"][1] == (box.repo / "random").read_bytes()
        assert (
            box.git("log", "-1", "--format=%P|%s|%an|%at", point.commit)
            == f"{base}|turn 1|SwarmRun|1700000000"
        )
        assert box.git("rev-parse", f"{point.commit}^{{tree}}") == point.tree

    in_sandbox(scenario)


def test_a_directory_that_became_a_link_is_a_link(in_sandbox, tmp_path):
    (tmp_path / "a").write_text("of somebody else\n")

    async def scenario(box):
        base = await box.loaded({"d/a": b"1\n", "d/e/b": b"2\n", "c": b"3\n"})
        await box.client.exec(f"rm -r d; ln -s {tmp_path} d")
        point = await box.client.checkpoint(since=base)
        files = box.receive(point.bundle, point.commit)
        assert files == {"c": ("100644", b"3\n"), "d": ("120000", str(tmp_path).encode())}
        await box.client.exec("rm d; mkdir d; echo 4 > d/a")
        again = await box.client.checkpoint(since=point.commit)
        assert box.receive(again.bundle, again.commit)["d/a"] == ("100644", b"4\n")

    in_sandbox(scenario)


def test_the_same_tree_gives_the_same_commit_and_no_change_gives_no_bundle(in_sandbox):
    async def scenario(box):
        base = await box.loaded()
        await box.client.write("b.py", b"b\n")
        first = await box.client.checkpoint(since=base, message="m")
        again = await box.client.checkpoint(since=base, message="m")
        assert (first.commit, first.bundle) == (again.commit, again.bundle)
        same = await box.client.checkpoint(since=first.commit, message="m")
        assert (same.commit, same.changed, same.bundle) == (first.commit, False, b"")
        await box.client.write("b.py", b"c\n")
        second = await box.client.checkpoint(since=first.commit)
        box.receive(first.bundle, first.commit)
        assert box.receive(second.bundle, second.commit)["b.py"][1] == b"c\n"
        await box.client.delete("b.py")
        back = await box.client.checkpoint(since=base)
        assert (back.commit, back.changed) == (base, False)

    in_sandbox(scenario)


def test_branch_index_and_stash_of_the_agent_stay_as_they_are(in_sandbox):
    async def scenario(box):
        base = await box.loaded()
        await box.client.exec("echo b > b.py; git add b.py; echo c > c.py")
        look = "git status --porcelain; git rev-parse HEAD; git for-each-ref"
        before = (await box.client.exec(look)).stdout
        await box.client.checkpoint(since=base)
        assert (await box.client.exec(look)).stdout == before
        assert before.startswith("A  b.py\n?? c.py\n")

    in_sandbox(scenario)


def test_what_the_agent_committed_itself_is_in_the_checkpoint(in_sandbox):
    async def scenario(box):
        base = await box.loaded({".gitignore": b"*.gen\n", "a": b""})
        done = await box.client.exec(
            "echo b > b.py; git add b.py; git commit -qm mine; git checkout -qb other; echo c > c.py; "
            "git add c.py; git commit -qm more; echo g > x.gen; git add -f x.gen; git commit -qm forced; echo i > y.gen"
        )
        assert done.exit_code == 0, done.stdout
        point = await box.client.checkpoint(since=base)
        assert sorted(box.receive(point.bundle, point.commit)) == [".gitignore", "a", "b.py", "c.py", "x.gen"]

    in_sandbox(scenario)


def test_hostile_configuration_hooks_filters_and_index_flags_change_nothing(in_sandbox):
    async def scenario(box):
        base = await box.loaded({"a.txt": b"a\n", "hidden.txt": b"h\n"})
        hostile = r"""
            run() { printf '#!/bin/sh\ntouch %s/ran-%s\nexit 1\n' "$TMPDIR" "$1" > "$2"; chmod +x "$2"; }
            for hook in pre-commit post-checkout post-index-change reference-transaction fsmonitor-watchman; do
                run $hook .git/hooks/$hook 2>/dev/null || { mkdir -p .git/hooks; run $hook .git/hooks/$hook; }
            done
            run filter $TMPDIR/filter
            git config core.fsmonitor $TMPDIR/filter
            git config core.hooksPath .git/hooks
            git config filter.evil.clean $TMPDIR/filter
            git config filter.evil.smudge $TMPDIR/filter
            git config filter.evil.process $TMPDIR/filter
            git config filter.evil.required true
            git config diff.external $TMPDIR/filter
            git config core.worktree /
            git config core.excludesFile $TMPDIR/all
            echo '*' > $TMPDIR/all
            echo '*' >> .git/info/exclude
            echo '* filter=evil working-tree-encoding=UTF-99' > .gitattributes
            git --work-tree=. update-index --assume-unchanged --skip-worktree hidden.txt
            echo changed > hidden.txt; echo changed > a.txt; echo new > new.txt
            printf '[include]\n\tpath = /nonexistent\n[broken\n' >> .git/config
            rm -f $TMPDIR/ran-*
        """
        await box.client.exec(hostile)
        point = await box.client.checkpoint(since=base)
        files = box.receive(point.bundle, point.commit)
        assert {name: content for name, (_, content) in files.items() if name != ".gitattributes"} == {
            "a.txt": b"changed\n",
            "hidden.txt": b"changed\n",
            "new.txt": b"new\n",
        }
        assert (await box.client.search("changed"))[1] == 2
        await box.client.load(b"", commit=base, branch="work")
        assert (box.repo / "a.txt").read_bytes() == b"a\n"
        assert not [name for name in os.listdir(box.home / "volume/tmp") if name.startswith("ran-")]

    in_sandbox(scenario)


@pytest.mark.parametrize(
    "damage",
    [
        "rm -rf .git",
        "rm -rf .git; git init -q; git commit -q --allow-empty -m x",
        "echo x > .git/HEAD; echo y > .git/index",
        "rm -rf .git/objects; ln -s / .git/objects",
        "rm -rf .git; ln -s /etc .git",
        "touch .git/index.lock",
    ],
)
def test_a_destroyed_git_directory_loses_nothing_and_a_load_mends_it(in_sandbox, damage):
    async def scenario(box):
        base = await box.loaded()
        await box.client.exec("echo b > b.py; " + damage)
        point = await box.client.checkpoint(since=base)
        assert set(box.receive(point.bundle, point.commit)) == {"a.py", "b.py"}
        await box.client.load(b"", commit=point.commit, branch="mended")
        said = (await box.client.exec("git status -sb; git log --format=%s; git fsck")).stdout
        assert said.startswith("## mended\nCheckpoint\nbase\n")

    in_sandbox(scenario)


def test_an_edited_journal_does_not_change_what_a_checkpoint_shows(in_sandbox):
    async def scenario(box):
        base = await box.loaded()
        lie = '{"key": "k", "call": "x", "answer": {"process": "p9", "final": true, "exit_code": 0}}'
        await box.client.exec(
            f"echo '{lie}' >> {box.home}/state/journal.jsonl; touch {box.home}/state/journal.jsonl"
        )
        point = await box.client.checkpoint(since=base)
        assert (point.changed, point.commit, point.bundle) == (False, base, b"")

    in_sandbox(scenario)


def test_a_repository_inside_the_repository_becomes_plain_files(in_sandbox):
    async def scenario(box):
        base = await box.loaded()
        await box.client.exec(
            "git init -q lib; cd lib; echo '*.o' > .gitignore; touch l.py x.o; git add .; git commit -qm l; "
            "git init -q deep; touch deep/d.py"
        )
        point = await box.client.checkpoint(since=base)
        assert sorted(box.receive(point.bundle, point.commit)) == [
            "a.py",
            "lib/.gitignore",
            "lib/deep/d.py",
            "lib/l.py",
        ]
        again = await box.client.checkpoint(since=point.commit)
        assert not again.changed
        await box.client.load(b"", commit=base, branch="work")
        assert sorted(os.listdir(box.repo)) == [".git", "a.py"]

    in_sandbox(scenario)


def test_a_huge_or_unreadable_file_is_named_with_its_mend(in_sandbox):
    async def scenario(box):
        base = await box.loaded()
        await box.client.exec("truncate -s 150M core.dump")
        with pytest.raises(ToolRejected, match=r"over 100 MB\): core.dump \(150 MB\); delete them or add"):
            await box.client.checkpoint(since=base)
        await box.client.exec("echo core.dump > .gitignore")
        assert (await box.client.checkpoint(since=base)).changed

    in_sandbox(scenario)


def test_a_load_removes_untracked_files_and_keeps_ignored_ones(in_sandbox):
    async def scenario(box):
        base = await box.loaded({".gitignore": b".venv/\n", "a.py": b"1\n", "d/x": b""})
        await box.client.exec(
            "mkdir .venv t; touch .venv/k t/u; echo 2 > a.py; rm -r d; ln -s /tmp d; git checkout -qb x"
        )
        await box.client.load(b"", commit=base, branch="work")
        assert sorted(os.listdir(box.repo)) == [".git", ".gitignore", ".venv", "a.py", "d"]
        assert (box.repo / "a.py").read_bytes() == b"1\n"
        assert os.listdir(box.repo / "d") == ["x"]
        said = (await box.client.exec("git status -sb; git branch; git diff HEAD")).stdout
        assert said == "## work\n* work\n"

    in_sandbox(scenario)


def test_loading_what_is_there_already_does_nothing(in_sandbox):
    async def scenario(box):
        base = await box.loaded()
        await box.client.exec("git branch mine")
        await box.client.load(box.bundle(), commit=base, branch="work")
        assert "mine" in (await box.client.exec("git branch")).stdout
        await box.client.write("b.py", b"")
        await box.client.load(b"", commit=base, branch="work")
        assert not (box.repo / "b.py").exists()

    in_sandbox(scenario)


def test_a_chain_of_incremental_bundles_restores_the_last_checkpoint(in_sandbox, tmp_path):
    async def scenario(box):
        base = await box.loaded()
        await box.client.write("b.py", b"1")
        first = await box.client.checkpoint(since=base)
        await box.client.write("b.py", b"2")
        second = await box.client.checkpoint(since=first.commit)
        box.commit({"c.py": b""})
        elsewhere = type(box)(tmp_path / "other", box.python)
        try:
            with pytest.raises(GitError, match=first.commit):  # It needs what the first one brings.
                await elsewhere.client.load(second.bundle, commit=second.commit, branch="w")
            with pytest.raises(NotFound, match="load it first"):
                await elsewhere.client.load(b"", commit=base, branch="w")
            await elsewhere.client.load(box.bundle(), commit=base, branch="w")
            await elsewhere.client.load(first.bundle, commit=first.commit, branch="w")
            await elsewhere.client.load(second.bundle, commit=second.commit, branch="w")
            assert (await elsewhere.client.read("b.py")) == b"2"
            assert not (await elsewhere.client.checkpoint(since=second.commit)).changed
            await elsewhere.client.close()
        finally:
            elsewhere.stop()

    in_sandbox(scenario)


def test_an_empty_base_commit_and_an_empty_tree_work(in_sandbox):
    async def scenario(box):
        base = await box.loaded({})
        assert not (await box.client.checkpoint(since=base)).changed
        assert await box.client.list() == ([], 0)
        assert await box.client.search("x") == ([], 0)
        await box.client.write("a", b"1")
        point = await box.client.checkpoint(since=base)
        assert box.receive(point.bundle, point.commit) == {"a": ("100644", b"1")}
        await box.client.delete("a")
        assert (
            box.receive((last := await box.client.checkpoint(since=point.commit)).bundle, last.commit) == {}
        )

    in_sandbox(scenario)


def test_submodules_and_line_endings_stay_as_the_repository_has_them(in_sandbox):
    async def scenario(box):
        box.commit({".gitattributes": b"*.bat text eol=crlf\n", "r.bat": b"a\nb\n"})
        box.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
        box.git("commit", "-qm", "sub")
        base = box.git("rev-parse", "HEAD")
        await box.client.load(box.bundle(), commit=base, branch="work")
        assert (box.repo / "r.bat").read_bytes() == b"a\r\nb\r\n"
        assert not (await box.client.checkpoint(since=base)).changed
        await box.client.write("n", b"")
        point = await box.client.checkpoint(since=base)
        assert (
            f"160000 commit {'1' * 40}\tsub"
            in subprocess.run(
                ["git", f"--git-dir={box.home}/volume/git", "ls-tree", point.commit],
                capture_output=True,
                text=True,
            ).stdout
        )

    in_sandbox(scenario)


def test_bad_ids_branches_and_bundles_are_refused(in_sandbox):
    async def scenario(box):
        base = await box.loaded()
        with pytest.raises(ToolRejected, match="not a full commit id"):
            await box.client.checkpoint(since="HEAD --upload-pack=x")
        with pytest.raises(NotFound, match="load it first"):
            await box.client.checkpoint(since="0" * 40)
        for branch in ("../x", "a..b", "-x", ""):
            with pytest.raises((GitError, ToolRejected)):
                await box.client.load(b"", commit=base, branch=branch)
        with pytest.raises(GitError):
            await box.client.load(b"no bundle", commit=base, branch="w")

    in_sandbox(scenario)


def test_a_repository_swapped_for_a_link_is_not_followed(in_sandbox):
    async def scenario(box):
        base = await box.loaded()
        precious = box.home / "precious"
        precious.mkdir()
        (precious / "file").write_text("precious")
        await box.client.exec(f"rm -rf ../repo; ln -s {precious} ../repo")
        for call in (box.client.checkpoint(since=base), box.client.list(), box.client.read("file")):
            with pytest.raises(ToolRejected, match="replaced by a link"):
                await call
        await box.client.load(b"", commit=base, branch="work")
        assert sorted(os.listdir(box.repo)) == [".git", "a.py"]
        assert os.listdir(precious) == ["file"]
        await box.client.exec("rm -rf ../repo")
        await box.client.load(b"", commit=base, branch="work")
        assert await box.client.read("a.py") == b"one = 1\n"

    in_sandbox(scenario)


def test_a_bundle_of_head_alone_is_taken_in(in_sandbox):
    async def scenario(box):
        base = box.commit({"a": b""})
        await box.client.load(box.bundle("HEAD"), commit=base, branch="a/b/c")
        assert (await box.client.exec("git branch --show-current")).stdout == "a/b/c\n"

    in_sandbox(scenario)
