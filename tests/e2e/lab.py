"""`swarmrun` as real processes, in a home of its own, on repositories of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-m", "swarmrun.cli.main"]
PATIENCE = 120.0
"""Seconds until a test gives up waiting; ample on a busy machine of two cores."""

_NOT_OURS = ("OPENAI_", "AZURE_", "SWARMRUN_", "GIT_", "GH_", "GITHUB_", "GITLAB_", "GITEA_")


def until(holds: Callable[[], Any], what: str, *, patience: float = PATIENCE) -> Any:
    """The first true value of `holds`. Raises AssertionError after `patience` seconds."""
    ends = time.monotonic() + patience
    while not (value := holds()):
        assert time.monotonic() < ends, f"waited {patience:g} s in vain: {what}"
        time.sleep(0.02)
    return value


class Lab:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.processes: list[subprocess.Popen[str]] = []

    # ------------------------------------------------------------ repositories

    def repository(self, name: str = "repo", files: dict[str, str] | None = None) -> Path:
        """A bare repository that logs every push in `<name>.pushes`; with one commit when there are `files`."""
        bare = self.root / f"{name}.git"
        git("init", "-q", "--bare", "-b", "main", str(bare))
        hook = bare / "hooks" / "post-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\nexec cat >> '{self.root / name}.pushes'\n")
        hook.chmod(0o755)
        if files:
            self.commit(bare, files)
            (self.root / f"{name}.pushes").unlink()
        return bare

    def commit(self, bare: Path, files: dict[str, str], branch: str = "main") -> str:
        """Somebody else's push."""
        work = self.root / f"work-{time.monotonic_ns()}"
        git("clone", "-q", str(bare), str(work))
        if git("-C", str(work), "branch", "-r", "--list", f"origin/{branch}"):
            git("-C", str(work), "checkout", "-q", branch)
        else:
            git("-C", str(work), "checkout", "-q", "-b", branch)
        for path, text in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(text)
        git("-C", str(work), "add", "-A")
        git("-C", str(work), "commit", "-q", "-m", "by hand")
        git("-C", str(work), "push", "-q", "origin", f"HEAD:refs/heads/{branch}")
        return git("-C", str(work), "rev-parse", "HEAD")

    def pushes(self, name: str = "repo") -> list[str]:
        """The refs that were pushed, in order, one for each time."""
        log = self.root / f"{name}.pushes"
        return [line.split()[2] for line in log.read_text().splitlines()] if log.exists() else []

    # ------------------------------------------------------------ the program

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_OURS)}
        return {**kept, "SWARMRUN_HOME": str(self.home), "NO_COLOR": "1", "COLUMNS": "400", **more}

    def run(self, *arguments: str, expect: int | None = 0, patience: float = PATIENCE) -> Done:
        """The command to its end. `expect`: its exit code, None for any."""
        done = self.start(*arguments).wait(patience)
        if expect is not None:
            assert done.code == expect, f"swarmrun {' '.join(arguments)} gave {done.code}\n{done}"
        return done

    def start(self, *arguments: str, program: list[str] | None = None) -> Started:
        """In a process group of its own, as a terminal would."""
        number = len(self.processes)
        self.root.mkdir(parents=True, exist_ok=True)
        out, err = self.root / f"{number}.out", self.root / f"{number}.err"
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(
                [*(program or PROGRAM), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                text=True,
                cwd=self.root,
                env=self.environment(),
                start_new_session=True,
                # A shell starts background jobs with Ctrl-C ignored, and children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        self.processes.append(process)
        return Started(process, out, err)

    def resource(self, text: str, name: str = "run.yaml") -> str:
        path = self.root / name
        path.write_text(text)
        return str(path)

    # ------------------------------------------------------------ looking

    def directory(self, name: str) -> Path:
        return self.home / "runs" / "default" / name

    def status(self, name: str) -> dict[str, Any]:
        """As the program last wrote it; empty before the first time."""
        try:
            return json.loads((self.directory(name) / "status.json").read_text())
        except FileNotFoundError:
            return {}

    def left_behind(self) -> list[str]:
        """Processes of any sandbox of this home."""
        found: list[str] = []
        for proc in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if proc.name.isdigit() and str(self.home) in (proc / "cmdline").read_text():
                    found.append(f"{proc.name} {(proc / 'cmdline').read_text()[:200]}")
        return found

    def cgroups(self) -> list[Path]:
        """Those of sandboxes that are known by their marker, as far as they exist."""
        markers = self.home.glob("runs/*/*/sandboxes/*/sandbox.json")
        groups = [Path(group) for m in markers for group in json.loads(m.read_text()).get("cgroups", [])]
        return [group for group in groups if group.exists()]

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Done:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __str__(self) -> str:
        return f"{self.out}\n-- standard error:\n{self.err}"


class Started:
    def __init__(self, process: subprocess.Popen[str], out: Path, err: Path) -> None:
        self.process, self._out, self._err = process, out, err

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def signal(self, number: int) -> None:
        """To the whole process group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def wait(self, patience: float = PATIENCE) -> Done:
        """Raises AssertionError, with what it has printed, when it takes longer."""
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"still running after {patience:g} s\n{self.out}\n{self.err}") from None
        return Done(code, self.out, self.err)


def git(*arguments: str) -> str:
    who = {
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@t",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@t",
    }
    environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def tree(repository: Path, what: str) -> str:
    return git("-C", str(repository), "rev-parse", f"{what}^{{tree}}")


@contextlib.contextmanager
def git_host(root: Path) -> Iterator[str]:
    """The repositories below `root` over HTTP, for readers: git's own server refuses every push. Gives its URL."""

    class Host(BaseHTTPRequestHandler):
        def answer(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            request = {
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("git-protocol") or "",
                "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding") or "",
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("content-type") or "",
                "PATH_INFO": path,
                "QUERY_STRING": query,
            }
            done = subprocess.run(
                ["git", "http-backend"], input=body, capture_output=True, env={**os.environ, **request}
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
