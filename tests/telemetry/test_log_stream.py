"""Where the log goes: the form fits the stream, and whoever does not read it holds nobody."""

import asyncio
import fcntl
import io
import json
import logging
import os
import pty
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

import pytest

from supervisor.telemetry import log_stream
from supervisor.telemetry.logs import Form, configure
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
    assert configure(stream) is Form.JSON
    status = os.fstat(stream.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + 1}")
    assert configure(stream) is Form.JSON
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    assert configure(stream) is Form.JOURNAL
    assert configure(stream, form="human") is Form.HUMAN
    assert configure(io.StringIO()) is Form.JSON
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
        assert configure(stream) is Form.HUMAN
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


async def test_too_many_waiting_lines_are_dropped_and_counted(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded; when the reader is back it is told how many lines it missed."""
    reading, stream = pipe
    monkeypatch.setattr(log_stream, "PENDING_BYTES", 10_000)
    configure(stream, form="journal")
    for number in range(2000):
        logging.getLogger("x").info("%06d %s", number, "x" * 100)
    received = b""

    def read() -> bool:
        nonlocal received
        with suppress(BlockingIOError):
            received += os.read(reading, 65536)
        logging.getLogger("x").info("still here")
        return b"they were not read in time" in received

    await async_eventually(read)
    lines = received.decode().splitlines()
    note = next(line for line in lines if "not read in time" in line)
    kept = [line for line in lines if re.match(r"<6>\d{6} ", line)]
    assert int(note.split()[0]) >= 2000 - len(kept)
    assert all(len(line) == len(kept[0]) for line in kept)


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


def test_without_a_loop_everything_is_written() -> None:
    """Before the loop runs, a slow reader is waited for: these are the messages of a start that fails."""
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
