"""The daemon's log: every form is one parseable, harmless line per record."""

import io
import json
import logging
import re

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
from supervisor.telemetry.log_forms import TEXT_LIMIT, escape, quoted, span
from supervisor.telemetry.logs import Form, configure
from supervisor.telemetry.move_log import ENDED_OPERATIONS_KEPT, MoveLog

ONE = InstanceId("emails", 1)
HOSTILE = 'a "b"\n<0>moved instance=x\x1b[2J\x9b\u202e=\\'


def make_host() -> Host:
    """Two pools."""
    return create(HostPlan("shop", {"emails": PoolPlan("emails", 3), "web": PoolPlan("web", 1)}))


def moved(target: Phase = Phase.STOPPING, cause: Cause = Cause.RESTART, detail: str = "") -> Moved:
    """A move of emails/1."""
    return Moved(ONE, 4, Phase.RUNNING, target, cause, detail, "stage-1", 25.0, "r-1")


def written(form: Form, *reports: Report, host: Host | None = None) -> str:
    """What a MoveLog writes about these reports."""
    stream = io.StringIO()
    lines = configure(stream, form=form, level="debug")
    MoveLog(lines)(reports, host or make_host(), 5.0)
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
    host.instances[ONE] = Instance(ONE, Goal.UP, Phase.RUNNING, generation=4)
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
    observer = MoveLog(configure(stream, form=Form.JOURNAL))
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
    host, observer = make_host(), MoveLog(configure(io.StringIO()))
    for number in range(ENDED_OPERATIONS_KEPT * 3):
        name = f"op-{number}"
        host.operations = {name: operation(OperationState.SUCCEEDED, name)}
        observer([OperationChanged(name)], host, 5.0)
    assert len(observer._operations) == ENDED_OPERATIONS_KEPT


@pytest.mark.parametrize("form", [Form.HUMAN, Form.JSON, Form.JOURNAL])
def test_text_of_a_worker_makes_no_line_of_its_own(form: Form) -> None:
    """Newlines, priorities and terminal codes in a detail, a reason or a last line do not get through."""
    host = make_host()
    host.instances[ONE] = Instance(ONE, Goal.UP, Phase.RUNNING, generation=4)
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
