from __future__ import annotations

import os

import pytest

from swarmrun.errors import NotFound, ToolRejected


def test_files_are_written_read_moved_and_deleted(in_sandbox):
    async def scenario(box):
        content = bytes(range(256)) * 3 + b"\n\r\n"
        await box.client.write("new/dir/b.bin", content)
        assert await box.client.read("new/dir/b.bin") == content
        await box.client.move("new/dir/b.bin", "moved/c.bin")
        assert (box.repo / "moved/c.bin").read_bytes() == content
        await box.client.delete("moved")
        assert not (box.repo / "moved").exists()
        await box.client.write("empty", b"")
        assert await box.client.read("empty") == b""

    in_sandbox(scenario)


def test_a_write_keeps_the_mode_of_the_file_and_leaves_no_draft(in_sandbox):
    async def scenario(box):
        await box.client.write("run.sh", b"1", mode=0o755)
        await box.client.write("run.sh", b"2")
        assert os.stat(box.repo / "run.sh").st_mode & 0o777 == 0o755
        assert os.listdir(box.repo) == ["run.sh"]

    in_sandbox(scenario)


def test_no_operation_leaves_the_repository(in_sandbox):
    async def scenario(box):
        outside = box.home / "outside"
        outside.mkdir()
        (outside / "x").write_text("secret")
        os.symlink(outside, box.repo / "out")
        (box.repo / "a").mkdir()
        (box.repo / "f").write_text("")
        client = box.client
        for path in ("../x", "/etc/hostname", "a/../../x", "out", "out/x", "out/new", "a\0b"):
            calls = [
                client.read(path),
                client.write(path, b"!"),
                client.list(path),
                client.exec("true", workdir=path),
            ]
            calls.append(client.search("s", path=path))
            if path != "out":  # The link itself may be moved and deleted.
                calls += [client.delete(path), client.move(path, "n"), client.move("f", path)]
            for call in calls:
                with pytest.raises((ToolRejected, NotFound)):
                    await call
        assert os.listdir(outside) == ["x"]
        assert (outside / "x").read_text() == "secret"

    in_sandbox(scenario)


def test_a_link_out_of_the_tree_is_neither_listed_nor_searched_through(in_sandbox):
    async def scenario(box):
        await box.loaded({"a.py": b"needle\n", "d/b.py": b"needle\n"})
        outside = box.home / "outside"
        outside.mkdir()
        (outside / "x.py").write_text("needle")
        os.symlink(outside, box.repo / "out")
        os.symlink(outside / "x.py", box.repo / "x.py")
        os.symlink("d", box.repo / "inner")
        rows, _ = await box.client.list(".", depth=5)
        assert rows == ["a.py", "d/", "d/b.py", "inner", "out", "x.py"]
        rows, total = await box.client.search("needle")
        assert (rows, total) == (["a.py:1: needle", "d/b.py:1: needle"], 2)
        assert await box.client.read("inner/b.py") == b"needle\n"
        await box.client.delete("out")
        assert (outside / "x.py").exists()

    in_sandbox(scenario)


def test_a_missing_file_is_named_with_similar_ones(in_sandbox):
    async def scenario(box):
        await box.loaded({"src/models.py": b"", "src/views.py": b""})
        with pytest.raises(NotFound, match=r"models.py: not found; similar: src/models.py"):
            await box.client.read("models.py")
        with pytest.raises(NotFound, match=r"similar: src/models.py"):
            await box.client.read("src/model.py")

    in_sandbox(scenario)


def test_what_is_no_file_is_refused_with_the_next_action(in_sandbox):
    async def scenario(box):
        await box.loaded({"d/x": b"12345"})
        os.mkfifo(box.repo / "pipe")
        os.symlink("loop", box.repo / "loop")
        for path, message in (
            ("loop", "not a directory|symbolic links"),
            ("d", "is a directory; list it"),
            ("pipe", "not a regular file"),
            (".", "list it"),
        ):
            with pytest.raises(ToolRejected, match=message):
                await box.client.read(path)
        with pytest.raises(ToolRejected, match="has 5 bytes, 4 at most"):
            await box.client.read("d/x", max_bytes=4)
        with pytest.raises(ToolRejected, match="is a directory"):
            await box.client.write("d", b"")
        with pytest.raises(ToolRejected, match="exists"):
            await box.client.move("d/x", "pipe")
        with pytest.raises(ToolRejected, match="into itself"):
            await box.client.move("d", "d/e")
        with pytest.raises(ToolRejected, match="git commands only"):
            await box.client.write(".git/hooks/pre-commit", b"")
        with pytest.raises(ToolRejected, match="repository itself"):
            await box.client.delete(".")
        with pytest.raises(NotFound):
            await box.client.delete("nothing")
        with pytest.raises(ToolRejected, match="not a directory"):
            await box.client.write("d/x/y", b"")

    in_sandbox(scenario)


def test_list_leaves_out_what_git_ignores_and_says_how_many_there_are(in_sandbox):
    async def scenario(box):
        await box.loaded(
            {".gitignore": b"*.log\nnode_modules/\n", "src/a/b/c.py": b"", "src/x.py": b"", "y.py": b""}
        )
        await box.client.exec("mkdir node_modules; touch node_modules/m.js k.log new.py; rm y.py")
        assert await box.client.list() == ([".gitignore", "new.py", "src/", "src/a/", "src/x.py"], 5)
        assert await box.client.list("src", depth=1) == (["src/a/", "src/x.py"], 2)
        assert await box.client.list(glob="*.py") == (["new.py", "src/a/b/c.py", "src/x.py"], 3)
        assert await box.client.list(max_entries=1) == ([".gitignore"], 5)

    in_sandbox(scenario)


def test_search_takes_perl_expressions_globs_and_context(in_sandbox):
    async def scenario(box):
        await box.loaded({"a.py": b"one\ntwo 22\nthree\n", "d/b.txt": b"two 2\n", "d/[x].py": b"two 3\n"})
        search = box.client.search
        assert await search(r"two (?=\d\d)") == (["a.py:2: two 22"], 1)
        assert await search("two", glob="*.txt") == (["d/b.txt:1: two 2"], 1)
        assert await search("two", path="d", glob="**/*.py") == (["d/[x].py:1: two 3"], 1)
        assert await search("two", path="d/[x].py") == (["d/[x].py:1: two 3"], 1)
        assert await search("two 22", context=1) == (["a.py-1- one", "a.py:2: two 22", "a.py-3- three"], 1)
        assert await search("two", max_matches=1) == (["a.py:2: two 22"], 3)
        assert await search("-e nothing") == ([], 0)
        with pytest.raises(ToolRejected, match="mend the regular expression"):
            await search("two(")

    in_sandbox(scenario)


def test_a_catastrophic_expression_ends_and_the_server_goes_on(in_sandbox):
    async def scenario(box):
        await box.loaded({"a.txt": b"a" * 5000 + b"!\n", "min.js": b"x" * 100_000 + b"needle"})
        try:
            rows, total = await box.client.search(r"^(a+)+$", path="a.txt")
        except ToolRejected:
            rows, total = [], 0
        assert (rows, total) == ([], 0)
        rows, total = await box.client.search("needle")
        assert total == 1
        assert len(rows[0]) < 500

    in_sandbox(scenario)
