"""The handler that writes log lines without ever waiting for whoever reads them.

A terminal stopped with Ctrl-S, a pipe nobody reads, a journald that hangs: none of them may hold the
daemon. Lines that cannot be written now wait in memory, up to a bound; more are dropped and counted.
"""

import asyncio
import logging
import os
import select
import time
from collections import deque
from contextlib import suppress

PENDING_BYTES = 1024 * 1024
"""What may wait for a slow reader: the lines of booting some two thousand instances."""

# A pipe or socket that polls as writable takes this much without blocking (PIPE_BUF, pipe(7)).
_CHUNK = 4096
_CLOSE_SECONDS = 2.0


class PatientHandler(logging.Handler):
    """Writes to a descriptor that may stop being read. Outside a running loop it simply writes."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._dropped = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record now, or keep it until it can be written."""
        try:
            data = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001  # a record that cannot be rendered must not stop who made it
            self.handleError(record)
            return
        if not self._pending:
            if self._dropped and self._is_writable():
                data = b"%d log lines dropped: they were not read in time\n" % self._dropped + data
                self._dropped = 0
            data = self._push(data)
            if not data:
                return
        if not self._wait_in_loop():
            self._write_all(data)
        elif self._pending_bytes + len(data) > PENDING_BYTES:
            self._dropped += 1
        else:
            self._pending.append(data)
            self._pending_bytes += len(data)

    def _is_writable(self, milliseconds: int = 0) -> bool:
        return bool(self._poll.poll(milliseconds))

    def _push(self, data: bytes) -> bytes:
        """Write what goes without waiting; the rest."""
        try:
            while data and self._is_writable():
                data = data[os.write(self._descriptor, data[:_CHUNK]) :]
        except BlockingIOError:
            return data
        except OSError:
            # The reader is gone for good; there is nobody left to tell.
            return b""
        return data

    def _write_all(self, data: bytes) -> None:
        with suppress(OSError):
            for waiting in (*self._pending, data):
                rest = waiting
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
        self._pending.clear()
        self._pending_bytes = 0

    def _wait_in_loop(self) -> bool:
        """Have the running loop call when the descriptor can be written; False outside of a loop."""
        if self._loop is not None and not self._loop.is_closed():
            return True
        try:
            loop = asyncio.get_running_loop()
            loop.add_writer(self._descriptor, self._go_on)
        except (RuntimeError, OSError):
            return False
        self._loop = loop
        return True

    def _go_on(self) -> None:
        self.acquire()
        try:
            while self._pending:
                rest = self._push(self._pending[0])
                self._pending_bytes -= len(self._pending[0]) - len(rest)
                if rest:
                    self._pending[0] = rest
                    return
                self._pending.popleft()
            if self._loop is not None:
                self._loop.remove_writer(self._descriptor)
                self._loop = None
        finally:
            self.release()

    def close(self) -> None:
        """Write what still waits, for two seconds at most. The descriptor stays open: it is not ours."""
        until = time.monotonic() + _CLOSE_SECONDS
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_writer(self._descriptor)
        self._loop = None
        while self._pending:
            left = until - time.monotonic()
            if left <= 0 or not self._is_writable(int(left * 1000)):
                break
            rest = self._push(self._pending[0])
            if rest:
                self._pending[0] = rest
            else:
                self._pending.popleft()
        self._pending.clear()
        self._pending_bytes = 0
        super().close()
