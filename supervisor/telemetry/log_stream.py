"""The stream that takes log lines without ever waiting for whoever reads them.

A terminal stopped with Ctrl-S, a pipe nobody reads, a journald that hangs: none of them may hold the
daemon. The lines of one turn of the loop are written together when it is over. Those that cannot be
written then wait in memory, up to a bound; more are dropped and counted.
"""

import asyncio
import os
import select
import threading
import time
from collections.abc import Callable

PENDING_BYTES = 1024 * 1024
"""What may wait for a slow reader: the lines of booting some two thousand instances."""

GATHERED_CHARACTERS = 64 * 1024
"""What may gather in one turn of the loop; beyond that it is written at once."""

# A pipe or socket that polls as writable takes this much without blocking (PIPE_BUF, pipe(7)). The flag
# O_NONBLOCK would not do: it belongs to everybody who shares the stream, also to the shell above.
_CHUNK = 4096
_CLOSE_SECONDS = 2.0


class LineStream:
    """Writes to a descriptor that may stop being read; of any number of threads.

    While a loop runs, what is written leaves at the end of its turn, or with `flush`; without one it
    leaves at once, and a slow reader is waited for. `note` makes the line that says how many were dropped.
    """

    def __init__(self, descriptor: int, note: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._note = note
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._lock = threading.RLock()
        self._lines: list[str] = []
        self._characters = 0
        self._pending = bytearray()
        self._dropped = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop in which something was written last."""
        self._promised = False
        """Whether it will call at the end of its turn."""
        self._waiting: asyncio.AbstractEventLoop | None = None
        """The loop that will call when the descriptor can be written."""

    def write(self, line: str) -> None:
        """Take a line, without its end."""
        with self._lock:
            self._lines.append(line)
            self._characters += len(line)
            if self._promised and self._turns():
                if self._characters > GATHERED_CHARACTERS:
                    self.flush()
                return
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:
                if self._turns():
                    self.flush()
                else:
                    self._gather()
                    self._push_all()
            else:
                self._promised = True
                self._loop.call_soon(self._end_of_turn)

    def flush(self) -> None:
        """Write now what goes without waiting; the rest follows when there is room."""
        with self._lock:
            self._gather()
            if self._waiting is None or self._waiting.is_closed():
                self._push()
                if self._pending:
                    self._wait()

    def close(self) -> None:
        """Write what still waits, for two seconds at most. The descriptor stays open: it is not ours."""
        with self._lock:
            self._gather()
            self._wait_no_more()
            until = time.monotonic() + _CLOSE_SECONDS
            while self._pending:
                left = until - time.monotonic()
                if left <= 0 or not self._is_writable(int(left * 1000)):
                    break
                self._push()
            self._pending.clear()

    def _end_of_turn(self) -> None:
        self._promised = False
        self.flush()

    def _turns(self) -> bool:
        # Asking for the running loop instead costs a system call before Python 3.12.
        return self._loop is not None and self._loop.is_running()

    def _gather(self) -> None:
        """Put the lines behind what waits already: all of them, or none if there is no room."""
        lines, self._lines, self._characters = self._lines, [], 0
        if not lines:
            return
        noted = [self._note(self._dropped)] if self._dropped else []
        data = ("\n".join(noted + lines) + "\n").encode("utf-8", "backslashreplace")
        if len(self._pending) + len(data) > PENDING_BYTES:
            self._dropped += len(lines)
        else:
            self._pending += data
            self._dropped = 0

    def _is_writable(self, milliseconds: int | None = 0) -> bool:
        return bool(self._poll.poll(milliseconds))

    def _push(self) -> None:
        """Write what goes without waiting."""
        while self._pending and self._is_writable():
            if not self._write_chunk():
                return

    def _push_all(self) -> None:
        while self._pending:
            self._is_writable(None)
            self._write_chunk()

    def _write_chunk(self) -> bool:
        """Write as many whole lines as surely go in, or a part of one that is longer."""
        end = self._pending.rfind(b"\n", 0, _CHUNK) + 1 or _CHUNK
        try:
            del self._pending[: os.write(self._descriptor, self._pending[:end])]
        except BlockingIOError:
            return False
        except OSError:
            # The reader is gone for good; there is nobody left to tell.
            self._pending.clear()
        return True

    def _wait(self) -> None:
        """Have the running loop call when the descriptor can be written; without one, keep the rest."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if self._loop is not None and self._turns():
                self._loop.call_soon_threadsafe(self.flush)
            return
        try:
            loop.add_writer(self._descriptor, self._go_on)
        except OSError:
            # No selector takes a regular file, and a file takes everything.
            self._push_all()
        else:
            self._waiting = loop

    def _wait_no_more(self) -> None:
        if self._waiting is not None and not self._waiting.is_closed():
            self._waiting.remove_writer(self._descriptor)
        self._waiting = None

    def _go_on(self) -> None:
        with self._lock:
            self._push()
            if not self._pending and self._dropped:
                self._pending += self._note(self._dropped).encode() + b"\n"
                self._dropped = 0
                self._push()
            if not self._pending:
                self._wait_no_more()
