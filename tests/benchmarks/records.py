"""What the workers of a comparison say: when each began, and when each got SIGTERM.

Reads the records of `worker.c` from a FIFO. Knows nothing of who supervises them.
"""

import fcntl
import os
import select
import struct
import time
from dataclasses import dataclass
from pathlib import Path

RECORD = struct.Struct("=iiq")
PIPE_SIZE = 1 << 20
F_SETPIPE_SZ = 1031


class TooFewError(Exception):
    """Not as many records as expected came in time; the message says how many did."""


@dataclass(frozen=True)
class Record:
    """One record: who, what, and when (CLOCK_MONOTONIC, seconds).

    "B" began, "L" began and is loud, "T" got SIGTERM, "D" has written all.
    """

    pid: int
    kind: str
    seconds: float


class Records:
    """The reading end; workers find the other by its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        # Workers may be of another user.
        path.chmod(0o666)
        # Read and write: so there is no end of file between two workers, and opening does not wait.
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(self._descriptor, F_SETPIPE_SZ, PIPE_SIZE)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def waiting(self) -> list[Record]:
        """What is there by now, without waiting."""
        try:
            data = os.read(self._descriptor, PIPE_SIZE)
        except BlockingIOError:
            return []
        return [Record(pid, chr(kind), when / 1e9) for pid, kind, when in RECORD.iter_unpack(data)]

    def take(self, count: int, within: float) -> list[Record]:
        """Wait for so many records. Raises `TooFewError` after `within` seconds."""
        until = time.monotonic() + within
        found: list[Record] = []
        while len(found) < count:
            left = until - time.monotonic()
            if left <= 0 or not self._poll.poll(left * 1000):
                raise TooFewError(f"{len(found)} of {count} within {within:g} s")
            found += self.waiting()
        return found

    def close(self) -> None:
        """Read no more."""
        os.close(self._descriptor)
