"""What one sd_notify datagram says, and when two datagrams say no more than one would.

Decides only about text: everything that comes out is checked and bounded, whatever went in, and
nothing that goes in raises. Sockets, senders and descriptors are the business of `notify`; what a
message leads to is the core's.

The protocol is that of sd_notify(3): assignments `KEY=VALUE`, one per line, unknown keys ignored, the
first of two assignments to one key counts. X_PITBOSS_* are our extensions in the name space that the
protocol leaves for them.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from supervisor.core.events import Told
from supervisor.core.identity import InstanceId

MAX_PAYLOAD_BYTES = 4096
"""PIPE_BUF; systemd drops longer messages as well."""

MAX_STATUS_CHARACTERS = 512
MAX_COUNT = 10**9
"""The most tasks that can be in flight or queued."""

MAX_INCREMENT = 10**6
"""The most tasks that can have ended since the last message."""

MAX_TASK_SECONDS_ENTRIES = 64
MAX_TASK_SECONDS = 10**7
"""Sixteen weeks. A single false duration must not spoil the sum of a histogram for good."""

MAX_INTERVAL_SECONDS = 86_400.0
"""A day: the longest watchdog interval, and the longest extension that is passed on."""

MAX_PID = 1 << 22
"""PID_MAX_LIMIT of 64-bit Linux."""

_UNSIGNED = re.compile(rb"[0-9]{1,20}")
_SECONDS = re.compile(rb"[0-9]{1,12}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?")
_INFINITY_USEC = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Message:
    """What a datagram said. `told` is None if it said nothing about the state of the worker.

    `problem` is empty, or names the first thing in it that could not be used; what else the message
    said still counts.
    """

    told: Told | None = None
    main_pid: int | None = None
    barrier: bool = False
    problem: str = ""


def parse(payload: bytes, instance: InstanceId, generation: int) -> Message:
    """Read a datagram of a process of this generation. Never raises."""
    payload = payload.removesuffix(b"\0")
    if b"\0" in payload:
        return Message(problem="it has a NUL inside")
    if payload.rstrip(b"\n") == b"BARRIER=1":
        return Message(barrier=True)
    said: dict[str, Any] = {}
    seen: set[bytes] = set()
    problem = ""
    for line in payload.split(b"\n"):
        key, equals, value = line.partition(b"=")
        reader = _ASSIGNMENTS.get(key)
        if not equals:
            problem = problem or (f"{_shown(line)} is not an assignment" if line else "")
        elif reader is not None and key not in seen:
            seen.add(key)
            try:
                said.update(reader(value))
            except ValueError as error:
                problem = problem or f"{_shown(line)}: {error}"
    main_pid = said.pop("main_pid", None)
    told = Told(instance, generation, **said) if said else None
    return Message(told, main_pid, problem=problem)


_steps = attrgetter("ready", "reloading", "stopping", "watchdog_trigger", "drained", "extend_seconds")
_NO_STEP = (False, False, False, False, False, None)


def merged(first: Told, second: Told) -> Told | None:
    """One message that says what these two say one after the other, or None if there is none.

    Values follow one another and the last one counts, task counts add up. What makes a worker move
    (`RELOADING=1` before `READY=1`) keeps its order, so only messages that make the same move merge.
    """
    moves = _steps(second)
    if moves not in (_NO_STEP, _steps(first)):
        return None
    seconds = first.task_seconds + second.task_seconds
    completed = first.tasks_completed + second.tasks_completed
    failed = first.tasks_failed + second.tasks_failed
    cancelled = first.tasks_cancelled + second.tasks_cancelled
    if len(seconds) > MAX_TASK_SECONDS_ENTRIES or max(completed, failed, cancelled) > MAX_INCREMENT:
        return None
    return replace(
        first,
        watchdog=first.watchdog or second.watchdog,
        watchdog_seconds=_latest(first.watchdog_seconds, second.watchdog_seconds),
        status=_latest(first.status, second.status),
        in_flight=_latest(first.in_flight, second.in_flight),
        queue_depth=_latest(first.queue_depth, second.queue_depth),
        tasks_completed=completed,
        tasks_failed=failed,
        tasks_cancelled=cancelled,
        task_seconds=seconds,
    )


def _latest(first: Any, second: Any) -> Any:
    return first if second is None else second


def one_line(data: bytes, limit: int) -> str:
    """Text of a stranger as one printable line of at most `limit` characters."""
    text = data.decode("utf-8", "replace")
    if not text.isprintable():
        # Control characters move a terminal's cursor, and format characters turn text around.
        text = "".join(
            character if character.isprintable() else " " if character.isspace() else "\ufffd"
            for character in text
        )
    return text[:limit]


def _shown(line: bytes) -> str:
    return repr(one_line(line, 40))


def _flag(name: str) -> Callable[[bytes], dict[str, Any]]:
    def read(value: bytes) -> dict[str, Any]:
        if value != b"1":
            raise ValueError("only 1 can be said")
        return {name: True}

    return read


def _number(name: str, low: int, high: int) -> Callable[[bytes], dict[str, Any]]:
    def read(value: bytes) -> dict[str, Any]:
        number = _unsigned(value)
        if not low <= number <= high:
            raise ValueError(f"expected {low} to {high}")
        return {name: number}

    return read


def _unsigned(value: bytes) -> int:
    # `int` alone would take signs, blanks, underscores and the digits of other scripts.
    if not _UNSIGNED.fullmatch(value):
        raise ValueError("expected a whole number")
    return int(value)


def _status(value: bytes) -> dict[str, Any]:
    return {"status": one_line(value, MAX_STATUS_CHARACTERS)}


def _watchdog(value: bytes) -> dict[str, Any]:
    if value == b"trigger":
        return {"watchdog_trigger": True}
    if value != b"1":
        raise ValueError("only 1 or trigger can be said")
    return {"watchdog": True}


def _watchdog_usec(value: bytes) -> dict[str, Any]:
    seconds = _unsigned(value) / 1e6
    if not 0 < seconds <= MAX_INTERVAL_SECONDS:
        raise ValueError("expected more than 0 and at most a day")
    return {"watchdog_seconds": seconds}


def _extend_timeout_usec(value: bytes) -> dict[str, Any]:
    if value == b"infinity":
        return {}
    microseconds = _unsigned(value)
    if microseconds == 0 or microseconds >= _INFINITY_USEC:
        return {}
    return {"extend_seconds": min(microseconds / 1e6, MAX_INTERVAL_SECONDS)}


def _task_seconds(value: bytes) -> dict[str, Any]:
    entries = value.split(b",")
    if len(entries) > MAX_TASK_SECONDS_ENTRIES:
        raise ValueError(f"expected at most {MAX_TASK_SECONDS_ENTRIES} entries")
    return {"task_seconds": tuple(_seconds(entry) for entry in entries)}


def _seconds(value: bytes) -> float:
    if not _SECONDS.fullmatch(value):
        raise ValueError("expected seconds such as 0.25")
    seconds = float(value)
    if not math.isfinite(seconds) or seconds > MAX_TASK_SECONDS:
        raise ValueError(f"expected at most {MAX_TASK_SECONDS} seconds")
    return seconds


def _barrier(_value: bytes) -> dict[str, Any]:
    raise ValueError("it must be a message of its own")


_ASSIGNMENTS: dict[bytes, Callable[[bytes], dict[str, Any]]] = {
    b"READY": _flag("ready"),
    b"RELOADING": _flag("reloading"),
    b"STOPPING": _flag("stopping"),
    b"STATUS": _status,
    b"MAINPID": _number("main_pid", 2, MAX_PID),
    b"WATCHDOG": _watchdog,
    b"WATCHDOG_USEC": _watchdog_usec,
    b"EXTEND_TIMEOUT_USEC": _extend_timeout_usec,
    b"BARRIER": _barrier,
    b"X_PITBOSS_INFLIGHT": _number("in_flight", 0, MAX_COUNT),
    b"X_PITBOSS_QUEUE_DEPTH": _number("queue_depth", 0, MAX_COUNT),
    b"X_PITBOSS_DRAINED": _flag("drained"),
    b"X_PITBOSS_TASKS_COMPLETED": _number("tasks_completed", 0, MAX_INCREMENT),
    b"X_PITBOSS_TASKS_FAILED": _number("tasks_failed", 0, MAX_INCREMENT),
    b"X_PITBOSS_TASKS_CANCELLED": _number("tasks_cancelled", 0, MAX_INCREMENT),
    b"X_PITBOSS_TASK_SECONDS": _task_seconds,
}
