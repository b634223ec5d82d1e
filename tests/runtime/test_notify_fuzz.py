"""Whatever a datagram holds: reading it never raises, and what it is taken for is bounded."""

import os
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.identity import InstanceId
from supervisor.runtime import notify_protocol as told
from supervisor.runtime.notify_protocol import Message, merged, parse

WEB = InstanceId("web", 0)
MANY = settings(max_examples=max(400, 20 * int(os.environ.get("FUZZ_REQUESTS", "0"))), deadline=None)

KEYS = st.sampled_from([key.decode() for key in sorted(told._ASSIGNMENTS)] + ["BARRIER", "ERRNO", "FDSTORE"])
ODD = st.sampled_from(["", "1", "0x1", "1e99"])
NUMBERS = st.integers(-(2**70), 2**70).map(str) | st.floats().map(str) | ODD
LISTS = st.lists(NUMBERS, max_size=90).map(",".join)
VALUES = (NUMBERS | LISTS).map(str.encode) | st.binary(max_size=600)
LINES = st.tuples(KEYS.map(str.encode) | st.binary(max_size=20), st.sampled_from([b"=", b"", b"=="]), VALUES)
DATAGRAMS = st.lists(LINES.map(b"".join), max_size=12).map(b"\n".join) | st.binary(max_size=4096)


def judge(message: Message) -> None:
    """What came of it is within every bound."""
    assert len(message.problem) < 400
    assert message.problem.isprintable()
    assert message.main_pid is None or 0 < message.main_pid <= told.MAX_PID
    said = message.told
    if said is None:
        return
    assert said.status is None or len(said.status) <= told.MAX_STATUS_CHARACTERS + 1
    assert not re.search("[\x00-\x1f\x7f-\x9f]", said.status or "")
    assert said.in_flight is None or 0 <= said.in_flight <= told.MAX_COUNT
    assert said.queue_depth is None or 0 <= said.queue_depth <= told.MAX_COUNT
    assert 0 <= said.tasks_completed <= told.MAX_INCREMENT
    assert len(said.task_seconds) <= told.MAX_TASK_SECONDS_ENTRIES
    assert all(0 <= seconds <= told.MAX_TASK_SECONDS for seconds in said.task_seconds)
    assert said.extend_seconds is None or 0 < said.extend_seconds <= told.MAX_INTERVAL_SECONDS


@MANY
@given(DATAGRAMS)
def test_any_datagram(payload: bytes) -> None:
    """Random bytes, and lines that look like the protocol."""
    judge(parse(payload, WEB, 1))


@MANY
@given(DATAGRAMS, DATAGRAMS)
def test_any_two_datagrams(first: bytes, second: bytes) -> None:
    """Two that are merged stay within the bounds of one."""
    one, two = parse(first, WEB, 1).told, parse(second, WEB, 1).told
    if one is not None and two is not None:
        judge(Message(merged(one, two)))
