"""The text of a notify datagram: what is understood, what is refused, and that nothing is unbounded."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.core.events import Told
from supervisor.core.identity import InstanceId
from supervisor.runtime import notify_protocol
from supervisor.runtime.notify_protocol import Message, merged, parse

EMAILS = InstanceId("emails", 0)


def said(payload: bytes) -> Message:
    """What a process of the third generation of `emails/0` says with this."""
    return parse(payload, EMAILS, 3)


def told(**facts: object) -> Told:
    """The event for these facts."""
    return Told(EMAILS, 3, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("payload", "facts"),
    [
        (b"READY=1", {"ready": True}),
        (b"READY=1\n", {"ready": True}),
        (b"READY=1\0", {"ready": True}),
        (b"RELOADING=1\nMONOTONIC_USEC=99", {"reloading": True}),
        (b"STOPPING=1", {"stopping": True}),
        (b"WATCHDOG=1", {"watchdog": True}),
        (b"WATCHDOG=trigger", {"watchdog_trigger": True}),
        (b"WATCHDOG_USEC=1500000", {"watchdog_seconds": 1.5}),
        (b"EXTEND_TIMEOUT_USEC=30000000", {"extend_seconds": 30.0}),
        (b"EXTEND_TIMEOUT_USEC=18446744073709551614", {"extend_seconds": 86400.0}),
        (b"STATUS=sorting the post", {"status": "sorting the post"}),
        (b"STATUS=", {"status": ""}),
        (b"STATUS=a=b", {"status": "a=b"}),
        ("STATUS=Grüße ✓".encode(), {"status": "Grüße ✓"}),
        (b"X_PITBOSS_INFLIGHT=0", {"in_flight": 0}),
        (b"X_PITBOSS_INFLIGHT=1000000000", {"in_flight": 10**9}),
        (b"X_PITBOSS_QUEUE_DEPTH=12", {"queue_depth": 12}),
        (b"X_PITBOSS_DRAINED=1", {"drained": True}),
        (
            b"X_PITBOSS_TASKS_COMPLETED=3\nX_PITBOSS_TASKS_FAILED=2\nX_PITBOSS_TASKS_CANCELLED=1",
            {"tasks_completed": 3, "tasks_failed": 2, "tasks_cancelled": 1},
        ),
        (b"X_PITBOSS_TASK_SECONDS=0.25,1,1e-05", {"task_seconds": (0.25, 1.0, 1e-05)}),
        (b"READY=1\nSTATUS=up\nX_OTHER=1\nERRNO=2\nFDSTORE=1", {"ready": True, "status": "up"}),
        (b"STATUS=first\nSTATUS=second", {"status": "first"}),
    ],
)
def test_what_is_said_is_heard(payload: bytes, facts: dict[str, object]) -> None:
    """Each assignment of the protocol becomes the fact it stands for, and nothing is complained about."""
    assert said(payload) == Message(told(**facts))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\n\n",
        b"X_OTHER=1",
        b"EXTEND_TIMEOUT_USEC=0",
        b"EXTEND_TIMEOUT_USEC=infinity",
        b"EXTEND_TIMEOUT_USEC=18446744073709551615",
    ],
)
def test_what_means_nothing_is_silent(payload: bytes) -> None:
    """Unknown keys and endless extensions are ignored without a complaint, as the protocol asks."""
    assert said(payload) == Message()


@pytest.mark.parametrize(
    "assignment",
    [
        b"READY=0",
        b"READY= 1",
        b"READY",
        b"\xff\xfe\x01",
        b"WATCHDOG=0",
        b"WATCHDOG_USEC=0",
        b"WATCHDOG_USEC=86400000001",
        b"WATCHDOG_USEC=-5",
        b"EXTEND_TIMEOUT_USEC=1e9",
        b"X_PITBOSS_INFLIGHT=-1",
        b"X_PITBOSS_INFLIGHT=+1",
        b"X_PITBOSS_INFLIGHT=1_000",
        b"X_PITBOSS_INFLIGHT= 1",
        "X_PITBOSS_INFLIGHT=٣".encode(),
        b"X_PITBOSS_INFLIGHT=1000000001",
        b"X_PITBOSS_INFLIGHT=" + b"9" * 4000,
        b"X_PITBOSS_TASKS_COMPLETED=1000001",
        b"X_PITBOSS_TASK_SECONDS=",
        b"X_PITBOSS_TASK_SECONDS=nan",
        b"X_PITBOSS_TASK_SECONDS=inf",
        b"X_PITBOSS_TASK_SECONDS=1e99",
        b"X_PITBOSS_TASK_SECONDS=-1",
        b"X_PITBOSS_TASK_SECONDS=1,,2",
        b"X_PITBOSS_TASK_SECONDS=" + b",".join([b"1"] * 65),
        b"MAINPID=0",
        b"MAINPID=1",
        b"MAINPID=4194305",
        b"MAINPID=self",
        b"BARRIER=1\nBARRIER=1",
    ],
)
def test_an_unusable_assignment_costs_only_itself(assignment: bytes) -> None:
    """It is named as a problem, and the rest of its message still counts."""
    message = said(assignment + b"\nSTATUS=still here")
    assert message.told == told(status="still here")
    assert message.problem
    assert len(message.problem) < 200
    assert message.problem.isprintable()


def test_a_nul_inside_spoils_the_message() -> None:
    """One at the end is tolerated; anywhere else nothing of the message counts."""
    assert said(b"READY=1\nSTATUS=a\0b") == Message(problem="it has a NUL inside")


def test_a_barrier_is_a_message_of_its_own() -> None:
    """Alone it is a barrier; among other assignments it is a mistake."""
    assert said(b"BARRIER=1\n") == Message(barrier=True)
    message = said(b"READY=1\nBARRIER=1")
    assert message.told == told(ready=True)
    assert not message.barrier
    assert "of its own" in message.problem


def test_a_main_process_is_named_beside_the_facts() -> None:
    """MAINPID= is not a fact yet: somebody has to verify it."""
    assert said(b"MAINPID=4711") == Message(main_pid=4711)
    assert said(b"MAINPID=4711\nREADY=1") == Message(told(ready=True), main_pid=4711)


def test_a_status_cannot_move_the_cursor() -> None:
    """Control and direction characters are replaced, and the line ends at 512 characters."""
    message = said(b"STATUS=\x1b[2Jred\ttab\r\xe2\x80\xaeverso\xff" + b"x" * 600)
    assert message.told is not None
    assert message.told.status is not None
    assert message.told.status.startswith("\ufffd[2Jred tab \ufffdverso\ufffdxxx")
    assert len(message.told.status) == 512


KEYS = st.sampled_from(sorted(notify_protocol._ASSIGNMENTS)) | st.binary(max_size=8)
VALUES = st.sampled_from([b"1", b"0", b"-1", b"1e5", b"nan", b"1,2", b"trigger", b"infinity"]) | st.binary(
    max_size=40
)
LINES = st.builds(lambda key, value: key + b"=" + value, KEYS, VALUES) | st.binary(max_size=60)
PAYLOADS = st.binary(max_size=4096) | st.lists(LINES, max_size=40).map(b"\n".join)


def assert_bounded(one: Told) -> None:
    """Everything a stranger may have written is inside the bounds that the rest of the daemon relies on."""
    assert one.status is None or (len(one.status) <= 512 and one.status.isprintable())
    assert one.in_flight is None or 0 <= one.in_flight <= 10**9
    assert one.queue_depth is None or 0 <= one.queue_depth <= 10**9
    assert all(0 <= n <= 10**6 for n in (one.tasks_completed, one.tasks_failed, one.tasks_cancelled))
    assert one.watchdog_seconds is None or 0 < one.watchdog_seconds <= 86400
    assert one.extend_seconds is None or 0 < one.extend_seconds <= 86400
    assert len(one.task_seconds) <= 64
    assert all(math.isfinite(seconds) and 0 <= seconds <= 10**7 for seconds in one.task_seconds)


@given(PAYLOADS)
@example(b"STATUS=" + b"\xf0\x9f\x98\x80" * 1000)
@example(b"=" * 4096)
@example(b"\n" * 4096)
def test_no_datagram_raises_or_escapes_its_bounds(payload: bytes) -> None:
    """Whatever bytes arrive, the outcome is a message inside its bounds."""
    message = said(payload)
    assert message.main_pid is None or 1 < message.main_pid <= 1 << 22
    assert len(message.problem) < 200
    assert message.problem.isprintable()
    if message.told is not None:
        assert_bounded(message.told)


MOVES = ("ready", "reloading", "stopping", "watchdog_trigger", "drained")


def effect(messages: list[Told]) -> tuple[object, ...]:
    """What a run of messages comes to: the moves in order without repetition, the last values, the sums."""
    moves: list[tuple[object, ...]] = []
    last: dict[str, object] = {}
    sums = [0, 0, 0]
    durations: list[float] = []
    alive = False
    for one in messages:
        move = (*(getattr(one, name) for name in MOVES), one.extend_seconds)
        if any(move) and (not moves or moves[-1] != move):
            moves.append(move)
        for name in ("status", "in_flight", "queue_depth", "watchdog_seconds"):
            if getattr(one, name) is not None:
                last[name] = getattr(one, name)
        sums = [
            a + b
            for a, b in zip(sums, (one.tasks_completed, one.tasks_failed, one.tasks_cancelled), strict=True)
        ]
        durations.extend(one.task_seconds)
        alive = alive or one.watchdog
    return moves, last, sums, durations, alive


@given(PAYLOADS, PAYLOADS)
@example(b"RELOADING=1", b"READY=1")
@example(
    b"X_PITBOSS_TASK_SECONDS=" + b",".join([b"1"] * 40), b"X_PITBOSS_TASK_SECONDS=" + b",".join([b"2"] * 40)
)
@example(b"X_PITBOSS_TASKS_FAILED=600000", b"X_PITBOSS_TASKS_FAILED=600000")
def test_merging_loses_nothing(first: bytes, second: bytes) -> None:
    """Two messages become one only if the one comes to the same and stays inside its bounds."""
    one, two = said(first).told, said(second).told
    if one is None or two is None:
        return
    both = merged(one, two)
    if both is not None:
        assert_bounded(both)
        assert effect([both]) == effect([one, two])


def test_a_flood_of_values_merges_and_moves_stay_apart() -> None:
    """Counts and keep-alives coalesce; RELOADING before READY does not."""
    assert merged(told(in_flight=1), told(in_flight=0, watchdog=True)) == told(in_flight=0, watchdog=True)
    assert merged(told(ready=True), told(status="up")) == told(ready=True, status="up")
    assert merged(told(ready=True), told(ready=True)) == told(ready=True)
    assert merged(told(reloading=True), told(ready=True)) is None
    assert merged(told(in_flight=1), told(drained=True)) is None
