"""Tell the supervisor what this worker is doing.

A worker imports this module, or copies it: it needs nothing but the standard library. It speaks the
sd_notify protocol (sd_notify(3)) on the datagram socket named by NOTIFY_SOCKET, with a few assignments
of our own (X_PITBOSS_*), so the plain ones work under systemd as well.

Nothing here makes a worker fail. Without NOTIFY_SOCKET every function does nothing and returns False; it
also returns False if the supervisor is not there or does not listen within `SEND_SECONDS`, and True
if the message was handed to the kernel. Only a call that could never be right (a negative count)
raises ValueError, with or without a supervisor.

All functions may be called from any thread.
"""

import math
import os
import select
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

SEND_SECONDS = 1.0
"""How long a message may wait for room: the kernel queues few (net.unix.max_dgram_qlen, often 10)."""

_LEAST_SECONDS = 0.001

MAX_STATUS_CHARACTERS = 512
MAX_COUNT = 10**9
MAX_INCREMENT = 10**6
MAX_DURATIONS = 64
MAX_DURATION_SECONDS = 10**7
MAX_EXTEND_SECONDS = 86_400.0
"""These are the supervisor's bounds for one message."""


def ready(text: str | None = None) -> bool:
    """Say that this worker can take work; with `text`, also what it is doing. Ends a reload too."""
    return send("READY=1" if text is None else f"READY=1\n{_status(text)}")


def reloading() -> bool:
    """Say that the configuration is being read again; `ready` says that this is over."""
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    return send(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")


def status(text: str) -> bool:
    """Show one line to whoever looks at this worker. Longer texts and further lines are cut."""
    return send(_status(text))


def stopping() -> bool:
    """Say that this worker has begun to end."""
    return send("STOPPING=1")


def drained() -> bool:
    """Say that everything this worker held is finished and that it takes nothing new."""
    return send("X_PITBOSS_DRAINED=1")


def watchdog() -> bool:
    """Say that this worker is alive. Call it where the work is done, not from a timer thread."""
    return send("WATCHDOG=1")


def watchdog_seconds() -> float | None:
    """How often `watchdog` must be called, or None if nobody waits for it. Call it twice as often."""
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
        meant = int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 and meant == os.getpid() else None


def extend(seconds: float) -> bool:
    """Ask that the present stage lasts at least this much longer, counted from now.

    The supervisor grants as much as the pool's `stop.extend` allows. Ask again before it is over.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"cannot extend by {seconds} seconds: expected more than 0")
    return send(f"EXTEND_TIMEOUT_USEC={max(1, int(min(seconds, MAX_EXTEND_SECONDS) * 1e6))}")


def in_flight(count: int) -> bool:
    """Say how many tasks this worker holds right now. 0 while draining means that it is drained."""
    return send(f"X_PITBOSS_INFLIGHT={_count(count, MAX_COUNT)}")


def queue_depth(count: int) -> bool:
    """Say how many tasks wait in the queue that this worker takes from."""
    return send(f"X_PITBOSS_QUEUE_DEPTH={_count(count, MAX_COUNT)}")


def tasks(completed: int = 0, failed: int = 0, cancelled: int = 0, seconds: Iterable[float] = ()) -> bool:
    """Say how many more tasks have ended since the last call, and how long each of them took.

    What cannot be sent is kept and goes out with the next call.
    """
    counts = [_count(number, MAX_INCREMENT) for number in (completed, failed, cancelled)]
    durations = [_duration(one) for one in seconds]
    return _ledger.report(counts, durations, None)


@contextmanager
def task() -> Iterator[None]:
    """Count the body as a task in flight, and then as completed, failed or cancelled.

    An exception makes it failed; asyncio's CancelledError, KeyboardInterrupt, SystemExit and
    GeneratorExit make it cancelled. All of them pass on. The number in flight is that of this
    process: in a worker that forks, only one process should use this.
    """
    began = time.monotonic()
    _ledger.begin()
    counts = [0, 0, 0]
    try:
        yield
        counts[0] = 1
    except BaseException as error:
        counts[1 if isinstance(error, Exception) else 2] = 1
        raise
    finally:
        _ledger.report(counts, [min(time.monotonic() - began, MAX_DURATION_SECONDS)], -1)


def barrier(timeout: float = 5.0) -> bool:
    """Wait until the supervisor has taken in everything that was said before; False if it has not in time.

    A short-lived process calls this before it ends: a message whose sender is gone may not count.
    """
    address = _address()
    if address is None:
        return False
    read_end, write_end = os.pipe()
    try:
        try:
            if not _send(address, b"BARRIER=1", timeout, write_end):
                return False
        finally:
            os.close(write_end)
        waiting = select.poll()
        waiting.register(read_end, 0)
        # The other end closes with the supervisor's copy of it: POLLHUP comes unasked.
        return bool(waiting.poll(max(0.0, timeout) * 1000))
    finally:
        os.close(read_end)


def send(message: str) -> bool:
    """Send assignments as they are, one per line."""
    address = _address()
    return address is not None and _send(address, message.encode("utf-8", "replace"), _Patience.seconds)


class _Ledger:
    """What is in flight, and what has ended but could not be said yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_flight = 0
        self._counts = [0, 0, 0]
        self._durations: list[float] = []

    def begin(self) -> None:
        with self._lock:
            self._in_flight += 1
            in_flight(self._in_flight)

    def report(self, counts: list[int], durations: list[float], change: int | None) -> bool:
        """Add to what is unsaid and say all of it; `change` is that of the number in flight."""
        with self._lock:
            if change is not None:
                self._in_flight += change
            if _address() is None:
                return False
            self._counts = [
                min(old + new, MAX_INCREMENT) for old, new in zip(self._counts, counts, strict=True)
            ]
            self._durations = (self._durations + durations)[-16 * MAX_DURATIONS :]
            while True:
                now, later = self._durations[:MAX_DURATIONS], self._durations[MAX_DURATIONS:]
                lines = [] if change is None else [f"X_PITBOSS_INFLIGHT={self._in_flight}"]
                for outcome, number in zip(("COMPLETED", "FAILED", "CANCELLED"), self._counts, strict=True):
                    if number:
                        lines.append(f"X_PITBOSS_TASKS_{outcome}={number}")
                if now:
                    lines.append("X_PITBOSS_TASK_SECONDS=" + ",".join(f"{one:.6f}" for one in now))
                if not lines:
                    return True
                if not send("\n".join(lines)):
                    return False
                self._counts, self._durations = [0, 0, 0], later
                if not later:
                    return True


def _new_process() -> None:
    # What the parent holds is not held here, and its lock may have been copied while it was taken.
    global _ledger  # noqa: PLW0603
    _ledger = _Ledger()


_ledger = _Ledger()
os.register_at_fork(after_in_child=_new_process)


def _address() -> str | None:
    """The socket to talk to; a leading @ means an abstract address, whose first byte is NUL."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith("/"):
        return address
    return "\0" + address[1:] if address.startswith("@") and len(address) > 1 else None


class _Patience:
    """How long the next message may wait.

    A supervisor that did not listen once is not waited for again until it takes a message: it must
    not slow down every task.
    """

    seconds = SEND_SECONDS


def _send(address: str, payload: bytes, timeout: float, descriptor: int | None = None) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as endpoint:
            endpoint.settimeout(max(_LEAST_SECONDS, timeout))
            # Linux says when there is room only on a connected socket; otherwise the wait would spin.
            endpoint.connect(address)
            rights = [] if descriptor is None else [descriptor]
            sent = socket.send_fds(endpoint, [payload], rights) if rights else endpoint.send(payload)
    except TimeoutError:
        _Patience.seconds = _LEAST_SECONDS
        return False
    except (OSError, ValueError):
        return False
    _Patience.seconds = SEND_SECONDS
    return sent == len(payload)


def _status(text: str) -> str:
    return "STATUS=" + " ".join(text.replace("\0", " ").splitlines())[:MAX_STATUS_CHARACTERS]


def _count(number: int, limit: int) -> int:
    if number < 0:
        raise ValueError(f"cannot report {number}: expected a number that is not negative")
    return min(int(number), limit)


def _duration(seconds: float) -> float:
    if not seconds >= 0:
        raise ValueError(f"cannot report {seconds} seconds: expected a number that is not negative")
    return min(float(seconds), MAX_DURATION_SECONDS)
