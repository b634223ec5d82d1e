"""Where the log goes: the form fits the stream, and whoever does not read it holds nobody."""

import asyncio
import fcntl
import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

import pytest

from supervisor.telemetry import log_stream
from supervisor.telemetry.logs import Form, LogLines, configure
from tests.waiting import async_eventually


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """The reading end and a text stream on the writing end."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
    os.close(reading)


def test_the_form_fits_where_the_stream_goes(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON into a pipe, priorities if systemd says that the pipe is the journal, columns on a terminal."""
    _, stream = pipe
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    assert configure(stream).form is Form.JSON
    status = os.fstat(stream.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
    assert configure(stream).form is Form.JSON
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    assert configure(stream).form is Form.JOURNAL
    assert configure(stream, form="human").form is Form.HUMAN
    assert configure(io.StringIO()).form is Form.JSON
    with pytest.raises(ValueError, match="xml"):
        configure(stream, form="xml")
    with pytest.raises(ValueError, match="LOUD"):
        configure(stream, level="loud")


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_gets_colours_unless_refused(no_color: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are yellow on a terminal; NO_COLOR is honoured."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    primary, secondary = pty.openpty()
    with os.fdopen(secondary, "w") as stream:
        assert configure(stream).form is Form.HUMAN
        logging.getLogger("x").warning("careful")
        line = os.read(primary, 4096).decode()
    os.close(primary)
    assert ("\x1b[33mcareful\x1b[0m" in line) is (no_color == "")
    assert "careful" in line


def test_configuring_again_replaces(pipe: tuple[int, TextIO]) -> None:
    """Two calls do not make two lines of one record, and the level holds."""
    reading, stream = pipe
    configure(stream, form="json")
    configure(stream, form="json", level="warning")
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("once")
    text = os.read(reading, 65536).decode()
    assert [json.loads(line)["message"] for line in text.splitlines()] == ["once"]


def break_down() -> None:
    """Raise an error of two lines."""
    raise RuntimeError("it\nbroke")


def test_a_traceback_is_part_of_its_record(pipe: tuple[int, TextIO]) -> None:
    """JSON keeps it inside the object; the journal's form gives each of its lines the priority."""
    reading, stream = pipe
    for form in ("json", "journal", "human"):
        configure(stream, form=form)
        try:
            break_down()
        except RuntimeError:
            logging.getLogger("x").exception("cannot do it")
        lines = os.read(reading, 65536).decode().splitlines()
        if form == "json":
            assert "RuntimeError: it\nbroke" in json.loads(lines[0])["exception"]
            assert len(lines) == 1
        elif form == "journal":
            assert all(line.startswith("<3>") for line in lines)
            assert lines[-2:] == ["<3>RuntimeError: it", "<3>broke"]
        else:
            assert lines[-1] == "    broke"


async def test_a_reader_that_sleeps_does_not_hold_the_loop(pipe: tuple[int, TextIO]) -> None:
    """With a full pipe the lines wait in memory and arrive in order when they are read, whole."""
    reading, stream = pipe
    fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    configure(stream, form="json")
    for number in range(1000):
        logging.getLogger("x").info("line %d %s", number, "x" * 300)
    assert len(os.read(reading, 10_000)) <= 4096
    received, done, loop = bytearray(), asyncio.Event(), asyncio.get_running_loop()

    def read() -> None:
        # A pipe of one page counts as full as soon as there is a byte in it: each read gives one line.
        received.extend(os.read(reading, 65536))
        if b'"line 999 ' in received[-1000:] and received.endswith(b"\n"):
            done.set()

    loop.add_reader(reading, read)
    await asyncio.wait_for(done.wait(), 30.0)
    loop.remove_reader(reading)
    lines = received[received.index(b"\n") + 1 :].splitlines()
    numbers = [int(json.loads(line)["message"].split()[1]) for line in lines]
    assert numbers == list(range(1000))[-len(numbers) :]
    assert len(numbers) > 980


@pytest.mark.parametrize("form", ["json", "journal", "human"])
async def test_too_many_waiting_lines_are_dropped_and_counted(
    form: str, pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded; when the reader is back it is told, in the form of the rest, how many it missed."""
    reading, stream = pipe
    monkeypatch.setattr(log_stream, "PENDING_BYTES", 100_000)
    lines = configure(stream, form=form)
    for number in range(5000):
        lines.say(logging.INFO, "x", "numbered", {"number": f"{number:06d}", "text": "x" * 100})
    received = b""

    def read() -> bool:
        nonlocal received
        with suppress(BlockingIOError):
            received += os.read(reading, 65536)
        return b"log-lines-dropped" in received and received.endswith(b"\n")

    await async_eventually(read)
    assert len(received) < 100_000 + 70_000
    numbers: list[int] = []
    for line in received.decode().splitlines():
        missed = re.search(r'log-lines-dropped.* ?count[":=]+(\d+)', line)
        found = re.search(r'number[":=]+(\d{6})', line)
        if missed is not None:
            numbers.extend([-1] * int(missed[1]))
        elif found is not None:
            assert int(found[1]) == len(numbers)
            numbers.append(int(found[1]))
    assert len(numbers) == 5000
    assert numbers.count(-1) > 3000


async def test_a_reader_that_is_gone_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    """EPIPE on the log is nobody's problem."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        configure(stream, form="json")
        os.close(reading)
        logging.getLogger("x").warning("anybody?")
        await asyncio.sleep(0)
        logging.getLogger("x").warning("nobody.")
        configure(io.StringIO())


def test_without_a_loop_everything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the loop runs, a slow reader is waited for: these are the messages of a start that fails."""
    monkeypatch.setattr(log_stream, "PENDING_BYTES", 2000)
    reading, writing = os.pipe()
    received: list[bytes] = []

    def read() -> None:
        while data := os.read(reading, 65536):
            received.append(data)

    with os.fdopen(writing, "w") as stream:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        configure(stream, form="json")
        reader = threading.Thread(target=read)
        reader.start()
        for number in range(500):
            logging.getLogger("x").info("line %d %s", number, "x" * 200)
        configure(io.StringIO())
    reader.join(30)
    os.close(reading)
    messages = [json.loads(line)["message"] for line in b"".join(received).splitlines()]
    assert [int(one.split()[1]) for one in messages] == list(range(500))


def say(lines: LogLines, *numbers: int, text: str = "") -> None:
    """A line for each number, on the way of those that are many."""
    for number in numbers:
        lines.say(logging.INFO, "x", "numbered", {"number": number, "text": text})


def numbers_of(data: bytes) -> list[int]:
    """Those of whole JSON lines."""
    assert data.endswith(b"\n")
    return [json.loads(line).get("number", -1) for line in data.splitlines()]


@pytest.fixture
def packets() -> Iterator[tuple[int, TextIO]]:
    """Like `pipe`, but each read gives what one write put in."""
    reading, writing = os.pipe2(os.O_DIRECT)
    os.set_blocking(reading, False)
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
    os.close(reading)


async def test_the_lines_of_one_turn_are_written_together(packets: tuple[int, TextIO]) -> None:
    """One write when the turn is over, and not later than that."""
    reading, stream = packets
    lines = configure(stream, form="json")
    for turn in range(3):
        say(lines, turn, turn, turn)
        with pytest.raises(BlockingIOError):
            os.read(reading, 65536)
        await asyncio.sleep(0)
        assert numbers_of(os.read(reading, 65536)) == [turn] * 3


async def test_a_write_holds_whole_lines(packets: tuple[int, TextIO]) -> None:
    """No write is longer than what a pipe takes at once, and none ends inside of a line that fits."""
    reading, stream = packets
    lines = configure(stream, form="json")
    say(lines, *range(50), text="x" * 300)
    logging.getLogger("x").info("%s", "y" * 5000)
    found, longest = b"", 0
    with suppress(BlockingIOError):
        while data := os.read(reading, 65536):
            longest = max(longest, len(data))
            assert data.endswith(b"\n") or b"yyy" in data
            found += data
    assert longest <= 4096
    assert numbers_of(found) == [*range(50), -1]


async def test_a_record_is_written_at_once_behind_the_lines_before_it(pipe: tuple[int, TextIO]) -> None:
    """What `logging` gets does not wait for the end of the turn, and does not overtake."""
    reading, stream = pipe
    lines = configure(stream, form="json")
    say(lines, 1, 2)
    logging.getLogger("x").warning("careful")
    assert numbers_of(os.read(reading, 65536)) == [1, 2, -1]
    say(lines, 3)
    await asyncio.sleep(0)
    assert numbers_of(os.read(reading, 65536)) == [3]


async def test_no_line_is_lost_when_the_log_is_configured_again(pipe: tuple[int, TextIO]) -> None:
    """Those of the turn that goes on are written where they were meant to go."""
    reading, stream = pipe
    say(configure(stream, form="json"), 1)
    configure(io.StringIO())
    assert numbers_of(os.read(reading, 65536)) == [1]


def test_a_line_outside_of_a_loop_is_written_at_once(pipe: tuple[int, TextIO]) -> None:
    """Before the loop runs, and after it has ended in the middle of a turn: nothing waits for a turn."""
    reading, stream = pipe
    lines = configure(stream, form="json")
    say(lines, 1)
    assert numbers_of(os.read(reading, 65536)) == [1]
    loop = asyncio.new_event_loop()
    loop.call_soon(loop.stop)
    loop.call_soon(say, lines, 2)
    loop.run_forever()
    say(lines, 3)
    assert numbers_of(os.read(reading, 65536)) == [2, 3]
    loop.close()
    say(lines, 4)
    assert numbers_of(os.read(reading, 65536)) == [4]


@pytest.mark.parametrize("end", ["raise RuntimeError", "sys.exit(3)", "raise KeyboardInterrupt", "pass"])
def test_no_line_is_lost_when_the_process_ends(end: str) -> None:
    """Whatever ends it, the lines of the turn in which it ended are there."""
    program = f"""
import asyncio, sys
from supervisor.telemetry.logs import configure
lines = configure(form="json")
async def main():
    def last():
        lines.say(20, "x", "numbered", {{"number": 2}})
        {end}
    asyncio.get_running_loop().call_soon(last)
    lines.say(20, "x", "numbered", {{"number": 1}})
    {"await asyncio.sleep(0)" if end == "pass" else "await asyncio.Event().wait()"}
asyncio.run(main())
"""
    if end.startswith("raise Runtime"):
        program = program.replace("asyncio.get_running_loop().call_soon(last)", "last()")
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    found = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith(b"{")]
    assert [one["number"] for one in found if "number" in one] == ([1, 2] if "Runtime" not in end else [2])


async def test_a_thread_is_not_held_by_a_slow_reader(pipe: tuple[int, TextIO]) -> None:
    """While the loop turns, another thread does not wait either, and its last lines follow by themselves."""
    reading, stream = pipe
    lines = configure(stream, form="json")
    say(lines, -1)
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)

    def talk() -> None:
        for number in range(1000):
            logging.getLogger("x").info("%d %s", number, "x" * 300)

    await asyncio.wait_for(loop.run_in_executor(None, talk), 30)
    received = bytearray()

    def read() -> bool:
        with suppress(BlockingIOError):
            received.extend(os.read(reading, 65536))
        return b'"999 ' in received and received.endswith(b"\n")

    await async_eventually(read)
    assert received.count(b"\n") == 1001


async def test_threads_write_whole_lines(pipe: tuple[int, TextIO]) -> None:
    """A record of another thread stands among the lines of the loop, and none of either is lost."""
    reading, stream = pipe
    lines = configure(stream, form="json")
    done = asyncio.Event()
    received = bytearray()
    loop = asyncio.get_running_loop()

    def read() -> None:
        received.extend(os.read(reading, 65536))
        if received.count(b"\n") == 2000:
            done.set()

    def talk() -> None:
        for number in range(1000):
            logging.getLogger("x").info("%d", number)

    loop.add_reader(reading, read)
    talking = loop.run_in_executor(None, talk)
    for number in range(1000):
        say(lines, number)
        await asyncio.sleep(0)
    await talking
    await asyncio.wait_for(done.wait(), 30)
    loop.remove_reader(reading)
    found = [json.loads(line) for line in received.splitlines()]
    assert [one["number"] for one in found if "number" in one] == list(range(1000))
    assert [int(one["message"]) for one in found if "message" in one] == list(range(1000))
