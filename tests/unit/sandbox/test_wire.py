from __future__ import annotations

import asyncio
import hashlib
import socket
import subprocess
import sys
import threading

import pytest

from swarmrun.errors import SandboxLost, SandboxRefused, ToolRejected
from swarmrun.sandbox.client import SandboxClient
from swarmrun.sandbox.sandboxd import PROTOCOL


def test_a_wrong_or_empty_token_is_lost_not_answered(in_sandbox):
    async def scenario(box):
        stranger = SandboxClient("s", "wrong", socket=str(box.home / "s"))
        with pytest.raises(SandboxLost, match="token"):
            await stranger.exec("true")
        await stranger.close()
        for line in (
            b"",
            b"Authorization: Bearer \r\n",
            b"Authorization: Bearer \xff\r\n",
            b"Authorization:\r\n",
        ):
            reader, writer = await asyncio.open_unix_connection(str(box.home / "s"))
            writer.write(b"POST /v1/health HTTP/1.1\r\n" + line + b"Content-Length: 2\r\n\r\n{}")
            assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
            writer.close()

    in_sandbox(scenario)


@pytest.mark.parametrize("value", ["", "abc", hashlib.sha256(b"").hexdigest()])
def test_a_server_without_a_real_token_does_not_start(python, tmp_path, value):
    line = [
        python,
        "-I",
        "operator/swarmrun/sandbox/sandboxd",
        f"--volume={tmp_path}/v",
        f"--state={tmp_path}/s",
    ]
    line += [f"--listen=unix:{tmp_path}/sock", f"--token-sha256={value}"]
    root = __file__.rpartition("/tests/")[0]
    done = subprocess.run(line, capture_output=True, text=True, timeout=20, cwd=root)
    assert done.returncode == 1
    assert "token" in done.stderr


def test_the_server_runs_on_python_3_9(in_sandbox, old_python):
    async def scenario(box):
        assert (await box.client.health())["python"].startswith("3.9.")

    in_sandbox(scenario)


def test_health_names_protocol_boot_python_and_git(in_sandbox):
    async def scenario(box):
        health = await box.client.health()
        assert health["protocol"] == PROTOCOL
        assert health["boot_id"] == box.client.boot_id != ""
        assert health["git"].startswith("git version")

    in_sandbox(scenario)


def test_a_repeated_key_is_answered_without_a_second_effect(in_sandbox):
    async def scenario(box):
        first = await box.client.exec("echo x >> log; cat log", key="t1/0")
        again = await box.client.exec("echo x >> log; cat log", key="t1/0")
        assert first.stdout == again.stdout == "x\n"
        await box.client.write("f", b"1", key="t1/1")
        await box.client.delete("f", key="t1/2")
        await box.client.write("f", b"1", key="t1/1")
        await box.client.delete("f", key="t1/2")
        assert not (box.repo / "f").exists()
        with pytest.raises(ToolRejected, match="another call"):
            await box.client.exec("echo other", key="t1/0")

    in_sandbox(scenario)


def test_a_repeated_key_joins_the_call_that_still_runs(in_sandbox):
    async def scenario(box):
        command = "echo x >> log; while [ ! -e go ]; do sleep 0.02; done; cat log"
        calls = [asyncio.create_task(box.client.exec(command, key="k")) for _ in range(3)]
        await asyncio.sleep(0.1)
        calls[0].cancel()  # A worker that died: the command belongs to those who repeat the call.
        await box.client.write("go", b"")
        results = await asyncio.gather(*calls[1:])
        assert [r.stdout for r in results] == ["x\n", "x\n"]

    in_sandbox(scenario)


def test_a_failed_call_can_be_repeated_under_its_key(in_sandbox):
    async def scenario(box):
        with pytest.raises(ToolRejected):
            await box.client.write("../f", b"", key="k")
        with pytest.raises(ToolRejected):
            await box.client.write("../f", b"", key="k")

    in_sandbox(scenario)


def test_a_server_killed_in_the_middle_of_a_call_is_lost(in_sandbox):
    async def scenario(box):
        call = asyncio.create_task(box.client.exec("echo $$ > pid; sleep 60"))
        while not (box.repo / "pid").exists():
            await asyncio.sleep(0.01)
        box.process.kill()
        with pytest.raises(SandboxLost, match="gone"):
            await call
        with pytest.raises(SandboxLost):
            await box.client.read("pid")

    in_sandbox(scenario)


def test_a_restarted_server_is_lost_to_whoever_knew_it_and_keeps_its_journal(in_sandbox):
    async def scenario(box):
        await box.client.exec("echo x >> log", key="done")
        await box.client.exec("sleep 60", key="cut", background=True)
        old = box.client
        box.process.kill()
        box.process.wait()
        box.start()
        with pytest.raises(SandboxLost, match="restarted"):
            await old.read("log")
        await old.close()
        assert (await box.client.exec("echo x >> log", key="done")).exit_code == 0
        assert (box.repo / "log").read_text() == "x\n"
        with pytest.raises(SandboxLost, match="cut off"):
            await box.client.exec("sleep 60", key="cut", background=True)

    in_sandbox(scenario)


def _answering(*answers: bytes) -> str:
    """A server that gives each connection one of these answers; returns its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(answer)
            connection.close()
        listener.close()

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (b"", SandboxLost, "gone"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nX-Sandboxd-Protocol: 1\r\n\r\n{", SandboxLost, "gone"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", SandboxLost, "no sandbox server"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Sandboxd-Protocol: 1\r\nX-Boot-Id: b\r\n\r\n\xff\xff\n",
            SandboxLost,
            "something else than JSON",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Sandboxd-Protocol: 7\r\n\r\n{}",
            SandboxRefused,
            f"speaks protocol 7, this version speaks {PROTOCOL}",
        ),
    ],
)
def test_whatever_else_answers_is_told_apart(answer, error, message):
    async def scenario():
        client = SandboxClient("s", "t", url=_answering(answer))
        with pytest.raises(error, match=message):
            await client.health()
        await client.close()

    asyncio.run(scenario())


def test_a_server_that_does_not_answer_in_time_is_lost():
    async def scenario():
        with socket.create_server(("127.0.0.1", 0)) as silent:
            client = SandboxClient("s", "t", url=f"http://127.0.0.1:{silent.getsockname()[1]}")
            with pytest.raises(SandboxLost, match="did not answer"):
                await client.health(timeout_s=0.1)
            await client.close()

    asyncio.run(scenario())


def test_garbage_and_unknown_operations_do_not_end_the_server(in_sandbox):
    async def scenario(box):
        auth = b"Authorization: Bearer a token of the tests\r\n"
        bodies = [b"[]", b"{", b"\xff", b'{"path": 7}', b"{}", b'{"path": null}']
        requests = [b"\0\1\2\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"x" * 2_000_000]
        requests += [b"POST /v1/read HTTP/1.1\r\n" + auth + b"Content-Length: 99999999999999\r\n\r\n"]
        for body in bodies:
            head = b"POST /v1/read HTTP/1.1\r\n" + auth + b"Content-Length: %d\r\n\r\n" % len(body)
            requests.append(head + body)
        for request in requests:
            reader, writer = await asyncio.open_unix_connection(str(box.home / "s"))
            writer.write(request)
            writer.write_eof()
            try:
                answer = await reader.read()
            except ConnectionError:
                answer = b""
            assert b" 200 " not in answer[:20]
            writer.close()
        with pytest.raises(SandboxRefused, match="no operation 'nothing'"):
            await box.client._call("nothing", {})
        assert (await box.client.exec("echo fine")).stdout == "fine\n"

    in_sandbox(scenario)


def test_the_server_also_listens_on_tcp(tmp_path):
    hashed = hashlib.sha256(b"t").hexdigest()
    root = __file__.rpartition("/tests/")[0]
    line = [sys.executable, "-I", f"{root}/operator/swarmrun/sandbox/sandboxd", f"--volume={tmp_path}/v"]
    line += [f"--state={tmp_path}/s", "--listen=tcp:127.0.0.1:0", f"--token-sha256={hashed}"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().split()[-1]

        async def scenario():
            client = SandboxClient("s", "t", url=f"http://127.0.0.1:{port}")
            assert (await client.exec("echo hi")).stdout == "hi\n"
            await client.close()

        asyncio.run(scenario())
        process.terminate()


def test_a_traced_request_is_told_how_long_it_took_and_others_are_not(in_sandbox):
    parent = f"00-{'a' * 32}-{'b' * 16}-01"

    async def scenario(box):
        async def asked(headers):
            answer = await box.client._http.post(
                "/v1/exec", content=b'{"command": "sleep 0.2", "wait_s": 10}', headers=headers
            )
            return answer.status_code, answer.headers.get("server-timing")

        status, told = await asked({"traceparent": parent})
        assert status == 200
        name, _, milliseconds = told.partition(";dur=")
        assert name == "sandboxd"
        assert float(milliseconds) >= 200
        # One of a later version has more behind it, and what is none is no reason to refuse.
        assert (await asked({"traceparent": parent.replace("00", "01", 1) + "-more"}))[1] is not None
        for other in ({}, {"traceparent": "00-x-y-01"}, {"traceparent": parent[:-1]}):
            assert await asked(other) == (200, None)

    in_sandbox(scenario)
