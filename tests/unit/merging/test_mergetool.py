"""One file for git: exit codes, markers, and as a real merge driver's inner part."""

from __future__ import annotations

import pytest

from swarmrun.errors import InvalidResource
from swarmrun.merging import mergetool


@pytest.fixture
def files(tmp_path):
    def make(base: bytes, ours: bytes, theirs: bytes):
        names = []
        for name, data in (("base", base), ("ours", ours), ("theirs", theirs)):
            (tmp_path / name).write_bytes(data)
            names.append(tmp_path / name)
        return [*names, tmp_path / "out"]

    return make


def test_a_resolved_file_is_written_guarded_and_explained(files):
    base, ours, theirs, out = files(b"a = 1\nb = 2\n", b"a = 10\nb = 2\n", b"a = 1\nb = 20\n")
    report = mergetool.run("m.py", base, ours, theirs, out)
    assert (report.exit_code, report.how, report.note) == (0, "Rules", "adjacent lines")
    assert out.read_bytes() == b"a = 10\nb = 20\n"


def test_out_may_be_the_file_of_ours_as_git_wants_it(files):
    base, ours, theirs, _ = files(b"a = 1\nb = 2\n", b"a = 10\nb = 2\n", b"a = 1\nb = 20\n")
    assert mergetool.run("m.py", base, ours, theirs, ours).exit_code == 0
    assert ours.read_bytes() == b"a = 10\nb = 20\n"


def test_conflicts_that_are_left_stand_in_out_with_markers(files):
    base, ours, theirs, out = files(b"x = 1\n", b"x = f()\n", b"x = [g]\n")
    report = mergetool.run("m.py", base, ours, theirs, out)
    assert (report.exit_code, report.conflicts) == (1, 1)
    assert b"<<<<<<< ours\nx = f()\n" in out.read_bytes()


def test_an_unchanged_side_gives_the_other_even_for_binary_files(files):
    base, ours, theirs, out = files(b"\0a", b"\0a", b"\0b")
    assert mergetool.run("x.bin", base, ours, theirs, out).exit_code == 0
    assert out.read_bytes() == b"\0b"


def test_binary_files_that_both_changed_stay_ours_and_count_as_conflict(files):
    base, ours, theirs, out = files(b"\0a", b"\0b", b"\0c")
    report = mergetool.run("x.bin", base, ours, theirs, out)
    assert report.exit_code == 1
    assert out.read_bytes() == b"\0b"


def test_what_cannot_be_read_or_written_is_a_usage_error(files, tmp_path):
    base, ours, theirs, out = files(b"a", b"b", b"c")
    with pytest.raises(InvalidResource, match="no file") as caught:
        mergetool.run("m.py", tmp_path / "missing", ours, theirs, out)
    assert caught.value.exit_code == 2
    with pytest.raises(InvalidResource, match="OUT"):
        mergetool.run("m.py", base, ours, ours, tmp_path / "no" / "out")
