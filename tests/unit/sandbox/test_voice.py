"""What the brain lets a sandbox say on its standard output."""

from __future__ import annotations

import asyncio
import os


def scenario(box, go):
    async def run():
        try:
            return await go(box.client)
        finally:
            await box.client.close()

    return asyncio.run(run())


def test_lines_come_out_whole_on_standard_output(make_box):
    ours, theirs = os.pipe()

    async def go(client):
        assert await client.say(["── coder, attempt 1, turn 1", "→ exec {}", "  größer \ud800"])
        assert await client.say([])

    scenario(make_box(theirs), go)
    assert os.read(ours, 1000).decode() == "── coder, attempt 1, turn 1\n→ exec {}\n  größer ?\n"


def test_a_log_that_nobody_reads_takes_one_worker_and_no_more(make_box):
    ours, theirs = os.pipe()
    box = make_box(theirs)

    async def go(client):
        full = asyncio.create_task(client.say(["x" * 200_000]))
        while not await asyncio.to_thread(_full, ours):
            await asyncio.sleep(0.01)
        for _ in range(50):
            assert await client.say(["not heard"]) is False
        done = await client.exec("echo still here")
        assert done.stdout == "still here\n"
        read = await asyncio.to_thread(_read, ours, 200_001)
        assert read.startswith(b"x")
        assert await full
        assert await client.say(["heard again"])

    scenario(box, go)
    assert os.read(ours, 1000) == b"heard again\n"


def _full(pipe: int) -> bool:
    """Whether as much is in the pipe as it takes."""
    import fcntl
    import termios

    waiting = int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0"), "little")
    return waiting >= fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)


def _read(pipe: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(pipe, size - len(data))
    return data


def test_a_reader_that_is_gone_ends_nothing(make_box):
    ours, theirs = os.pipe()
    box = make_box(theirs)
    os.close(theirs)
    os.close(ours)

    async def go(client):
        assert await client.say(["to nobody"]) is False
        assert (await client.exec("true")).exit_code == 0

    scenario(box, go)
