"""Run the command of a check, and leave nothing of it behind.

Decides when a command is over: when its main process ended, or when it was killed. Then its whole
process group is killed and the process reaped, by descriptor, however long that takes; nobody has to
wait for it. How long a command may take, and what its end means, is known elsewhere.
"""

import asyncio
import errno
import os
import signal
from contextlib import suppress

from supervisor.core.exits import ExitStatus
from supervisor.core.launch import Launch
from supervisor.runtime.children import Child, SpawnError, reap, spawn_failure, start_child, wait_status
from supervisor.runtime.http_check import LACKING, CannotAskError, CheckError
from supervisor.runtime.notify_protocol import one_line
from supervisor.runtime.starter import Starter

KEPT_BYTES = 4096
"""How much of the end of its output is kept: enough for the line that says what went wrong."""

MAX_LINE_CHARACTERS = 200

_LACKING = LACKING | {errno.EAGAIN}
"""fork(2) says EAGAIN when there may be no further process, and execve(2) when its user has too many."""

_READ_BYTES = 16 * 1024
_LAST_READS = 8
"""Two pipes full. A process that escaped from the group may go on writing for ever."""


class CommandRun:
    """One run of a command. Owns two descriptors while it runs, three with a helper, then none.

    Raises CheckError if there is no process, and CannotAskError if that is for want of descriptors,
    memory or room for another process.
    """

    def __init__(
        self, launch: Launch, argv: tuple[str, ...], kind: str, starter: Starter | None = None
    ) -> None:
        self.name = one_line(os.fsencode(argv[0]), MAX_LINE_CHARACTERS) if argv else "the command"
        self._argv = argv
        self._launch = launch
        self._loop = asyncio.get_running_loop()
        self._tail = b""
        try:
            self._output, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise CannotAskError(f"cannot run {self.name}: {error.strerror}") from error
        try:
            # Only the reading end may be non-blocking: that mode is shared with the command otherwise.
            os.set_blocking(write_end, True)
            self._child: Child = start_child(
                launch,
                argv=argv,
                output=write_end,
                environment={**launch.environment, "PITBOSS_CHECK": kind},
                new_session=True,
                starter=starter,
            )
        except BaseException as error:
            os.close(self._output)
            if isinstance(error, SpawnError | OSError):
                code = error.code if isinstance(error, SpawnError) else error.errno
                raise (CannotAskError if code in _LACKING else CheckError)(str(error)) from error
            raise
        finally:
            os.close(write_end)
        self.ended: asyncio.Future[str | CannotAskError | None] = self._loop.create_future()
        """Done once the process is reaped: None if it passed, the reason why not, or why it never ran.

        Not as the exception of the future: a command that was killed has nobody who would take it."""
        self._loop.add_reader(self._output, self._read)
        self._loop.add_reader(self._child.pidfd, self._bury)

    def kill(self) -> None:
        """End the command and everything in its group, and stop listening to it."""
        if not self.ended.done():
            self._kill_group()
            self._close_output()

    def last_line(self) -> str:
        """The last line it wrote that is not blank, or nothing."""
        for line in reversed(self._tail.splitlines()):
            text = one_line(line, MAX_LINE_CHARACTERS).strip()
            if text:
                return text
        return ""

    def _kill_group(self) -> None:
        # Until it is reaped the kernel keeps its pid, so the group cannot belong to a stranger.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        # A child that has not become a group leader yet is still a child.
        with suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(self._child.pidfd, signal.SIGKILL)

    def _read(self) -> bool:
        try:
            data = os.read(self._output, _READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self._tail = (self._tail + data)[-KEPT_BYTES:]
        else:
            self._close_output()
        return bool(data)

    def _close_output(self) -> None:
        if self._output >= 0:
            self._loop.remove_reader(self._output)
            os.close(self._output)
            self._output = -1

    def _bury(self) -> None:
        status = wait_status(self._child)
        if status is None:
            return
        self._kill_group()
        for _ in range(_LAST_READS):
            if self._output < 0 or not self._read():
                break
        self._close_output()
        failure = spawn_failure(self._child, self._launch, self._argv)
        self._loop.remove_reader(self._child.pidfd)
        reap(self._child)
        if not self.ended.done():
            if failure is None:
                self.ended.set_result(self._verdict(status))
            else:
                told = str(failure)
                self.ended.set_result(CannotAskError(told) if failure.code in _LACKING else told)

    def _verdict(self, status: ExitStatus) -> str | None:
        if status.code == 0:
            return None
        if status.signal is not None:
            end = f"was ended by {status.signal}"
        elif status.code is not None:
            end = f"exited with {status.code}"
        else:
            end = "ended, and its status was lost"
        line = self.last_line()
        return f"{self.name} {end}: {line}" if line else f"{self.name} {end}"
