"""What is taken from the machine: toolchains, cgroups, and what the doctor says."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from swarmrun.sandbox import bubblewrap, cgroups, probe
from swarmrun.sandbox.toolchains import toolchains


def _program(path: Path, text: str = "#!/bin/sh\nexit 0\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def test_of_a_home_only_toolchain_roots_are_shown(tmp_path):
    home = tmp_path / "home"
    bins = [
        ".pyenv/shims",
        ".pyenv/bin",
        ".cargo/bin",
        ".nvm/versions/node/v20/bin",
        "go/bin",
        "bin",
        ".local/bin",
    ]
    bins += ["proj/.venv/bin"]
    for name in [*bins, ".ssh", ".rustup/toolchains"]:
        (home / name).mkdir(parents=True)
    (home / "proj/.venv/pyvenv.cfg").touch()
    path = ":".join(
        [*(str(home / name) for name in bins), str(home), "/", ".", "relative", "/nowhere", "/usr/bin"]
    )
    found = toolchains(
        path, home=home, environ={"PYENV_ROOT": str(home / ".pyenv"), "JAVA_HOME": "/elsewhere"}
    )
    shown = {str(root.relative_to(home)) for root in found.roots if root.is_relative_to(home)}
    assert shown == {
        ".pyenv", ".cargo/bin", ".rustup", ".nvm/versions", "go/bin", "bin", ".local/bin", "proj/.venv",
    }  # fmt: skip
    assert not any(home.is_relative_to(root) for root in found.roots)
    assert found.env == {"PYENV_ROOT": str(home / ".pyenv"), "RUSTUP_HOME": str(home / ".rustup")}
    inside = found.path.split(":")
    assert str(home) not in inside
    assert "/" not in inside
    assert inside[-1] == "/usr/bin"


def test_the_running_python_comes_first_unless_the_users_pytest_runs(tmp_path):
    own = os.path.join(sys.prefix, "bin")
    broken, good = tmp_path / "broken", tmp_path / "good"
    _program(broken / "pytest", "#!/bin/sh\nexit 127\n")  # As a shim does whose Python has none.
    _program(good / "pytest")
    for path, first in ((tmp_path / "none", own), (broken, own), (good, str(good))):
        path.mkdir(exist_ok=True)
        found = toolchains(str(path), home=tmp_path / "home")
        assert found.path.split(":")[0] == first
        assert Path(sys.prefix) in found.roots or Path(sys.prefix).is_relative_to("/usr")


def test_a_writable_v2_hierarchy_is_used_and_left_clean(tmp_path):
    """Ordinary files stand in for the kernel's: this machine may have v1 only."""
    group = tmp_path / "app.slice" / "swarmrun-x"
    group.mkdir(parents=True)
    (tmp_path / "cgroup.controllers").write_text("pids memory")
    for name in ("pids.max", "memory.max", "memory.swap.max"):
        (group / name).touch()
    made = cgroups._create_v2("swarmrun-x", {"": "/app.slice/app-1.scope"}, 50, 100, tmp_path)
    assert made is not None
    assert made.directories == (group,)
    assert (group / "pids.max").read_text() == "50"
    assert (group / "memory.max").read_text() == str(100 * 1024**2)
    assert made.prefix[-2:] == (str(group / "cgroup.procs"), "--")


def test_where_no_cgroup_can_be_made_nothing_is_left_behind(tmp_path):
    (tmp_path / "pids").mkdir()
    own = {"pids": "/", "memory": "/", "": "/"}
    assert cgroups._create_v1("swarmrun-x", own, 10, 10, tmp_path) is None
    assert cgroups._create_v2("swarmrun-x", own, 10, 10, tmp_path) is None
    assert list((tmp_path / "pids").iterdir()) == []


@pytest.mark.parametrize(
    ("file", "value"),
    [
        ("sys/user/max_user_namespaces", "0"),
        ("sys/kernel/unprivileged_userns_clone", "0"),
        ("sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    ],
)
def test_the_doctor_names_the_switch_that_forbids_user_namespaces(tmp_path, monkeypatch, file, value):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(value + "\n")
    found = probe._user_namespaces(tmp_path)
    assert found.level == "warning"
    assert file in found.message
    assert "sysctl" in found.mend


def test_the_doctor_gives_a_mend_with_every_problem(tmp_path, monkeypatch):
    _program(tmp_path / "git", "#!/bin/sh\necho git version 2.30.1\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    by_name = {finding.name: finding for finding in probe.check()}
    assert (by_name["git"].level, by_name["bubblewrap"].level) == ("problem", "problem")
    assert "2.30.1 is too old" in by_name["git"].message
    assert "package `bubblewrap`" in by_name["bubblewrap"].mend
    _program(tmp_path / "bwrap", "#!/bin/sh\necho setting up uid map: Permission denied >&2\nexit 1\n")
    broken = {finding.name: finding for finding in probe.check()}["bubblewrap"]
    assert "setting up uid map" in broken.message
    assert broken.mend
    bubblewrap.usable.cache_clear()
