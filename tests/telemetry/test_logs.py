"""The daemon's log: every form is one parseable, harmless line per record, and writing never blocks."""

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
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.effects import (
    Accepted,
    BackedOff,
    Cause,
    Climbed,
    Ended,
    Extended,
    GoalChanged,
    Moved,
    OperationChanged,
    ReadyChanged,
    Report,
    StopEnded,
)
from supervisor.core.events import Scope
from supervisor.core.exits import ExitClass, ExitRecord
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import Goal, Phase
from supervisor.core.plan import HostPlan, PoolPlan
from supervisor.core.state import Host, Operation, OperationState, create
from supervisor.telemetry import log_stream
from supervisor.telemetry.log_forms import TEXT_LIMIT, escape, quoted, span
from supervisor.telemetry.logs import Form, configure
from supervisor.telemetry.move_log import ENDED_OPERATIONS_KEPT, MoveLog
from tests.waiting import async_eventually

ONE = InstanceId("emails", 1)
HOSTILE = 'a "b"\n<0>moved instance=x\x1b[2J\x9b\u202e=\\'


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    """What `configure` does to the process is undone."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in [one for one in root.handlers if one not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def make_host() -> Host:
    """Two pools."""
    return create(HostPlan("shop", {"emails": PoolPlan("emails", 3), "web": PoolPlan("web", 1)}))


def moved(target: Phase = Phase.STOPPING, cause: Cause = Cause.RESTART, detail: str = "") -> Moved:
    """A move of emails/1."""
    return Moved(ONE, 4, Phase.RUNNING, target, cause, detail, "stage-1", 25.0, "r-1")


def written(form: Form, *reports: Report, host: Host | None = None) -> str:
    """What a MoveLog writes about these reports."""
    stream = io.StringIO()
    configure(stream, form=form, level="debug")
    MoveLog()(reports, host or make_host(), 5.0)
    return stream.getvalue()


def test_a_move_is_one_machine_first_line() -> None:
    """The event, then its fields in a fixed order, as the reference shows it."""
    assert written(Form.JOURNAL, moved()) == (
        "<6>moved instance=emails/1 generation=4 from=running to=stopping cause=restart "
        "stage=stage-1 deadline_seconds=25 request_id=r-1\n"
    )


def test_a_move_as_an_object() -> None:
    """JSON has the same fields, typed, and the time in UTC."""
    body = json.loads(written(Form.JSON, moved()))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body.pop("time"))
    assert body == {
        "level": "info",
        "logger": "supervisor.telemetry.move_log",
        "event": "moved",
        "instance": "emails/1",
        "generation": 4,
        "from": "running",
        "to": "stopping",
        "cause": "restart",
        "stage": "stage-1",
        "deadline_seconds": 25.0,
        "request_id": "r-1",
    }


def test_a_move_for_people() -> None:
    """Time of day, who, what and why, in columns."""
    line = written(Form.HUMAN, moved())
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3}  emails/1 {11}running → stopping {5}"
        r"restart, stage-1, 25 s at most, request r-1\n",
        line,
    )


LEVELS: list[tuple[Report, str | None]] = [
    (moved(), "info"),
    (moved(Phase.BACKOFF, Cause.EXIT), "warning"),
    (moved(Phase.FAILED, Cause.GAVE_UP), "error"),
    (moved(Phase.STUCK, Cause.OUTLIVED_KILL), "error"),
    (moved(Phase.STOPPING, Cause.WATCHDOG), "warning"),
    (moved(Phase.STOPPING, Cause.LEFTOVERS), "warning"),
    (Climbed(ONE, 4, "drain", 3.0, "drained", "stage-1"), "info"),
    (Climbed(ONE, 4, "settle", 5.0, "window-closed", "drain"), "info"),
    (Climbed(ONE, 4, "stage-1", 25.0, "window-closed", "kill"), "warning"),
    (Climbed(ONE, 4, "kill", 5.0, "stuck"), "error"),
    (ReadyChanged(ONE, 4, True, "", 1.5), None),
    (ReadyChanged(ONE, 4, True, ""), "info"),
    (ReadyChanged(ONE, 4, False, "its probe failed"), "warning"),
    (ReadyChanged(InstanceId("emails", 0), 4, False, "it stops"), None),
    (ReadyChanged(InstanceId("gone", 0), 4, False, "it stops"), None),
    (Ended(ONE, ExitRecord(4, ExitClass.CLEAN, "exit 0", 5.0, 12.0)), "info"),
    (Ended(ONE, ExitRecord(4, ExitClass.CLEAN, "exit 0", 5.0, 12.0, leftovers=2)), "warning"),
    (Ended(ONE, ExitRecord(4, ExitClass.FAILURE, "exit 3", 5.0, 12.0)), "warning"),
    (StopEnded(ONE, 4, "clean", 3.0), "info"),
    (StopEnded(ONE, 4, "escalated", 3.0), "warning"),
    (StopEnded(ONE, 4, "killed", 3.0), "warning"),
    (StopEnded(ONE, 4, "stuck", 3.0), "error"),
    (Extended(ONE, 4, 60.0), "info"),
    (GoalChanged(Scope("emails"), Goal.DRAINED, "r-1", "uid 0"), "info"),
    (BackedOff(ONE, 1.0, 2), None),
    (Accepted("op"), None),
    (OperationChanged("unknown"), None),
]


@pytest.mark.parametrize(("report", "level"), LEVELS, ids=lambda value: str(value)[:50])
def test_each_report_has_its_level(report: Report, level: str | None) -> None:
    """Normal life is info, trouble that mends itself a warning, what needs a person an error."""
    host = make_host()
    host.instances[ONE] = Instance(ONE, Goal.UP, Phase.RUNNING, 4)
    text = written(Form.JSON, report, host=host)
    levels = [json.loads(line)["level"] for line in text.splitlines()]
    assert levels == ([] if level is None else [level])
    for form in (Form.HUMAN, Form.JOURNAL):
        assert written(form, report, host=host).count("\n") == len(levels)


def test_an_ending_tells_its_last_words() -> None:
    """A bad ending carries the last line of output; a good one does not."""
    record = ExitRecord(
        4, ExitClass.FAILURE, "exit 3", 5.0, 12.25, last_lines=("Traceback", "ValueError: x", "")
    )
    assert written(Form.JOURNAL, Ended(ONE, record)) == (
        '<4>ended instance=emails/1 generation=4 class=failure detail="exit 3" uptime_seconds=12.25 '
        'last_line="ValueError: x"\n'
    )
    assert "ended failure          exit 3, up 12.25 s, last line: ValueError: x" in written(
        Form.HUMAN, Ended(ONE, record)
    )
    good = ExitRecord(4, ExitClass.CLEAN, "exit 0", 5.0, 12.25, "stage-1", last_lines=("bye",))
    assert "bye" not in written(Form.JSON, Ended(ONE, good))


def operation(state: OperationState, name: str = "op-1") -> Operation:
    """A restart of emails."""
    finished = 9.0 if state.is_final else None
    return Operation(
        name,
        "restart",
        Scope("emails"),
        state,
        1,
        3,
        5.0,
        finished,
        None,
        "r-1",
        "uid 0",
        "halted: not ready",
    )


def test_an_operation_has_two_lines() -> None:
    """One when it begins and one when it ends, however often it is reported."""
    host, stream = make_host(), io.StringIO()
    configure(stream, form=Form.JOURNAL)
    observer = MoveLog()
    for state in (
        OperationState.PENDING,
        OperationState.RUNNING,
        OperationState.FAILED,
        OperationState.FAILED,
    ):
        host.operations["op-1"] = operation(state)
        observer([OperationChanged("op-1")], host, 5.0)
    began, ended = stream.getvalue().splitlines()
    assert began == '<6>operation-started id=op-1 kind=restart target=emails principal="uid 0" request_id=r-1'
    assert ended == (
        "<4>operation-ended id=op-1 kind=restart target=emails outcome=failed seconds=4 "
        'message="halted: not ready" principal="uid 0" request_id=r-1'
    )


def test_ended_operations_are_forgotten() -> None:
    """What is remembered about operations is bounded."""
    host, observer = make_host(), MoveLog(logging.getLogger("silent"))
    for number in range(ENDED_OPERATIONS_KEPT * 3):
        name = f"op-{number}"
        host.operations = {name: operation(OperationState.SUCCEEDED, name)}
        observer([OperationChanged(name)], host, 5.0)
    assert len(observer._operations) == ENDED_OPERATIONS_KEPT


# ── hostile text ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", [Form.HUMAN, Form.JSON, Form.JOURNAL])
def test_text_of_a_worker_makes_no_line_of_its_own(form: Form) -> None:
    """Newlines, priorities and terminal codes in a detail, a reason or a last line do not get through."""
    host = make_host()
    host.instances[ONE] = Instance(ONE, Goal.UP, Phase.RUNNING, 4)
    host.operations["op"] = Operation(
        HOSTILE,
        "restart",
        Scope("emails"),
        OperationState.FAILED,
        0,
        1,
        1.0,
        2.0,
        None,
        HOSTILE,
        HOSTILE,
        HOSTILE,
    )
    record = ExitRecord(4, ExitClass.FAILURE, HOSTILE, 5.0, 1.0, last_lines=(HOSTILE * 1000,))
    reports: list[Report] = [
        moved(detail=HOSTILE),
        ReadyChanged(ONE, 4, False, HOSTILE),
        Ended(ONE, record),
        GoalChanged(Scope("emails"), Goal.DOWN, HOSTILE, HOSTILE),
        OperationChanged("op"),
    ]
    text = written(form, *reports, host=host)
    logging.getLogger("anybody").error("failed: %s", HOSTILE)
    lines = text.splitlines()
    assert len(lines) == 6
    for line in lines:
        assert line.isprintable()
        assert len(line) < 5000
        if form is Form.JSON:
            json.loads(line)


@given(st.text(max_size=50))
def test_escape_leaves_only_what_can_be_seen(text: str) -> None:
    """Printable text is left alone; anything else becomes visible."""
    assert escape(text).isprintable()
    if text.isprintable():
        assert escape(text) == text


@given(st.dictionaries(st.sampled_from("abc"), st.text(max_size=30) | st.integers(), min_size=1))
def test_a_quoted_value_can_be_read_back(fields: dict[str, object]) -> None:
    """Between the quotes there is no bare quote, so that a reader finds the end."""
    for value in fields.values():
        text = quoted(value)
        assert re.fullmatch(r'[^\s"=\\]+|"(?:[^"\\]|\\.)*"', text), text


def test_too_much_text_is_cut_and_counted() -> None:
    """A megabyte of status is not a megabyte of log."""
    assert escape("x" * (TEXT_LIMIT + 7)) == "x" * TEXT_LIMIT + "... (7 more)"


def test_durations_for_people() -> None:
    """A unit that fits, and no more digits than help."""
    assert [span(one) for one in (0.0, 0.527, 25.0, 119.5, 150.0, 12_600.0, 777_600.0)] == [
        "0 s",
        "0.53 s",
        "25 s",
        "119.5 s",
        "2.5 min",
        "3.5 h",
        "9 d",
    ]


# ── forms and streams ────────────────────────────────────────────────────────────────────────────


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
