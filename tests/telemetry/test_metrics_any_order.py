"""Whatever is reported in whatever order: no metric raises, and no log form either."""

import io
import logging
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse_text

from supervisor.core import effects
from supervisor.core.effects import (
    BackedOff,
    Cause,
    Climbed,
    Ended,
    Extended,
    GoalChanged,
    Moved,
    OperationChanged,
    ProbeFailed,
    ReadyChanged,
    Report,
    StopEnded,
    TasksReported,
)
from supervisor.core.events import CheckKind, Scope
from supervisor.core.exits import ExitClass, ExitRecord
from supervisor.core.identity import InstanceId
from supervisor.core.phases import Goal, Phase
from supervisor.core.state import Operation, OperationState
from supervisor.telemetry.log_forms import HumanForm, JournalForm, JsonForm
from supervisor.telemetry.logs import Form, LogLines, TextSink
from supervisor.telemetry.metrics import Metrics
from supervisor.telemetry.move_log import MoveLog
from tests.telemetry.scripted import Clock, make_host, samples

TEXT = st.text(max_size=8)
POOLS = st.sampled_from(["emails", "web", "gone", ""])
IDS = st.builds(InstanceId, POOLS, st.integers(-1, 3))
SECONDS = st.floats() | st.floats(0, 100)
COUNT = st.integers(0, 5)
OPERATION_IDS = st.sampled_from(["op-1", "op-2", "op-3", "none"])
RECORDS = st.builds(
    ExitRecord,
    COUNT,
    st.sampled_from(ExitClass),
    TEXT,
    SECONDS,
    SECONDS,
    leftovers=COUNT,
    last_lines=st.tuples(TEXT),
)
REPORTS = st.one_of(
    st.builds(
        Moved,
        IDS,
        COUNT,
        st.sampled_from(Phase),
        st.sampled_from(Phase),
        st.sampled_from(Cause),
        TEXT,
        st.none() | TEXT,
        st.none() | SECONDS,
        TEXT,
    ),
    st.builds(Climbed, IDS, COUNT, TEXT, SECONDS, TEXT, st.none() | TEXT, st.none() | SECONDS, TEXT),
    st.builds(ReadyChanged, IDS, COUNT, st.booleans(), TEXT, st.none() | SECONDS),
    st.builds(Ended, IDS, RECORDS),
    st.builds(StopEnded, IDS, COUNT, TEXT, SECONDS),
    st.builds(Extended, IDS, COUNT, SECONDS),
    st.builds(ProbeFailed, IDS, COUNT, st.sampled_from(CheckKind), TEXT),
    st.builds(BackedOff, IDS, SECONDS, COUNT),
    st.builds(TasksReported, IDS, COUNT, COUNT, COUNT, st.lists(SECONDS, max_size=3).map(tuple)),
    st.builds(
        GoalChanged, st.builds(Scope, st.none() | TEXT, st.none() | COUNT), st.sampled_from(Goal), TEXT, TEXT
    ),
    st.builds(OperationChanged, OPERATION_IDS),
    st.builds(effects.Accepted, TEXT),
    st.builds(effects.Refused, TEXT, TEXT, TEXT),
)
OPERATIONS = st.builds(
    Operation,
    OPERATION_IDS,
    TEXT,
    st.just(Scope("emails")),
    st.sampled_from(OperationState),
    COUNT,
    COUNT,
    SECONDS,
    st.none() | SECONDS,
)


def test_the_strategy_knows_every_report() -> None:
    """A report added to the core is added here too."""
    assert {"Moved", "Refused"} <= {one.__name__ for one in effects.Report.__args__}
    assert len(effects.Report.__args__) == 13


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(REPORTS, max_size=6), max_size=6), st.lists(OPERATIONS, max_size=3))
def test_no_sequence_of_reports_raises(steps: list[list[Report]], operations: list[Operation]) -> None:
    """Whatever is reported, in any order and about anybody: all observers go on and the text is readable."""
    host = make_host()
    host.operations = {one.id: one for one in operations}
    metrics = Metrics(version="1", clock=Clock())
    loud, text = logging.getLogger("loud"), io.StringIO()
    loud.setLevel(logging.DEBUG)
    looks = (HumanForm(colour=True), JsonForm(), JournalForm())
    logs = [MoveLog(LogLines(Form.AUTO, look, TextSink(text)), loud) for look in looks]
    observers: list[Callable[..., None]] = [metrics, *logs]
    for reports in steps:
        for observer in observers:
            observer(reports, host, 1.0)
        body, _ = metrics.render()
        list(parse_text(body.decode()))
    for key in samples(metrics, openmetrics=True):
        assert "gone" not in key
    assert all(line.replace("\x1b", "").isprintable() for line in text.getvalue().split("\n"))
