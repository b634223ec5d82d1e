"""Keep the process that makes recruits, and take one from it whenever a worker needs more than a command.

A recruit is a child of this process that waits to be told which worker to become: a copy of a small
interpreter that runs already, where `become_worker` as a script starts one. Decides when that process is
started, how long it is waited for, and when it is given up. Whoever asks and gets no recruit goes the way
of the script, which needs nothing but this process; so no trouble here keeps a worker from being started.

Nothing is made ahead: a process counts as old as its copying, and `ps` would show a worker that is
older than the wish for it.
"""

import asyncio
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from supervisor.runtime.execution import ALL_SIGNALS

log = logging.getLogger(__name__)

SCRIPT = str(Path(__file__).with_name("make_recruits.py"))

CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220}
"""The number of clone(2), whose third to fifth arguments are all 0 here, where it takes the flags first."""

WAIT_SECONDS = 0.02
"""A recruit comes 0.3 ms after it was asked for, while its worker is prepared; on a busy machine it has to
be scheduled first, like the child that posix_spawn(3) waits for, and both take up to some 10 ms then. Who is
later is not waited for again."""

STALE_SECONDS = 0.1
"""A recruit that comes this long after it was asked for is sent away: it is as old as that."""

HUNG_SECONDS = 5.0
"""A process that has not answered for so long is ended and started again."""

PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 60.0
"""How long is waited before a process that never made a recruit is replaced; doubled each time."""

MESSAGE_BYTES = 64
INT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Recruit:
    """A child, in a process group of its own unless asked otherwise, and the socket for its plan.

    Both descriptors belong to whoever got it; without a plan it ends when the socket is closed.
    """

    pid: int
    pidfd: int
    channel: int


class _LostError(Exception):
    """The process is of no use any more; the message goes on after its name."""


class Starter:
    """The process that makes recruits. It is started by `begin`, or by the first wish for a recruit.

    With a `loop` its end is noticed at once, and not only by who wants a recruit next.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        script: str = SCRIPT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._script = script
        self._clock = clock
        self._pidfd = -1
        self._control: socket.socket | None = None
        self._began_at = 0.0
        self._ready = False
        self._asked_at: float | None = None
        self._patience = 0.0
        self._is_proven = False
        self._pause = 0.0
        self._not_before = 0.0
        self._dying: list[tuple[int, int]] = []

    @property
    def is_ready(self) -> bool:
        """Whether a recruit can be asked for at once."""
        return self._ready

    def begin(self) -> None:
        """Start the process unless there is one, or was one a moment ago that was of no use."""
        number = CLONE.get(os.uname().machine)
        if self._control is not None or number is None or sys.maxsize < 1 << 32:
            return
        self._bury()
        self._began_at = self._clock()
        if self._began_at < self._not_before:
            return
        try:
            self._control = self._connected(number)
        except OSError as error:
            self._not_before = self._began_at + PAUSE_SECONDS
            log.warning("cannot prepare quick starts: %s; each takes an interpreter of its own", error)

    def _connected(self, clone: int) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                ours.setblocking(False)
                self._spawn(theirs.fileno(), clone)
            except BaseException:
                ours.close()
                raise
        return ours

    def _spawn(self, control: int, clone: int) -> None:
        # In our own process group: `descendants` lets those alone. Its last words are for our log.
        words = (sys.executable, "-I", "-S", self._script, str(control), str(clone))
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, control, control),
        ]
        pid = os.posix_spawn(words[0], words, {}, file_actions=actions, setsigmask=(), setsigdef=ALL_SIGNALS)
        # Our child, and nobody else reaps it: the pid is its own.
        try:
            self._pidfd = os.pidfd_open(pid, os.O_NONBLOCK)
        except OSError:
            self._dying.append((os.P_PID, pid))
            raise
        if self._loop is not None:
            self._loop.add_reader(self._pidfd, self._has_ended, self._pidfd)

    def _has_ended(self, pidfd: int) -> None:
        if pidfd == self._pidfd:
            with self._losing():
                raise _LostError("has ended")
        self._bury()

    def settle(self, seconds: float) -> None:
        """Wait until it is ready, at most so long; for who has nothing else to do yet."""
        with self._losing():
            if self._control is not None and not self._ready:
                self._ready = self._receive(self._control, seconds) is not None

    def ask(self) -> None:
        """Have a recruit made while its plan is: `recruit`, called soon, hands it out.

        If that is not called, it waits for whoever needs one next, who sends it away if it is old by then.
        """
        with self._losing():
            if self._control is not None and self._ready and self._asked_at is None:
                self._send_wish(self._control)

    def _send_wish(self, control: socket.socket) -> float:
        control.send(b"+")
        self._asked_at, self._patience = self._clock(), WAIT_SECONDS
        return self._asked_at

    def recruit(self, *, own_group: bool = True) -> Recruit | None:
        """A fresh recruit, or None: now or altogether it has to be done without."""
        if self._control is None:
            self.begin()
            return None
        with self._losing():
            if not self._ready:
                self._ready = self._receive(self._control, 0) is not None
                self._expect_within(self._began_at)
            if self._ready:
                return self._take(self._control, own_group=own_group)
        return None

    def _take(self, control: socket.socket, *, own_group: bool) -> Recruit | None:
        while True:
            asked_at = self._send_wish(control) if self._asked_at is None else self._asked_at
            wait, self._patience = self._patience, 0.0
            answer = self._receive(control, wait)
            if answer is None:
                self._expect_within(asked_at)
                return None
            self._asked_at = None
            number, channel = answer
            if number <= 0:
                log.info("cannot start a worker the quick way: %s", os.strerror(-number))
                return None
            if channel is None:
                # No descriptor was left for it, so that it is closed already.
                return None
            if self._clock() - asked_at <= STALE_SECONDS:
                self._is_proven = True
                return self._welcome(number, channel, own_group=own_group)
            os.close(channel)

    def _welcome(self, pid: int, channel: int, *, own_group: bool) -> Recruit | None:
        pidfd = -1
        try:
            # A child of ours that is not reaped: the pid is its own. The kernel says whether it is one.
            pidfd = os.pidfd_open(pid, os.O_NONBLOCK)
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if own_group:
                os.setpgid(pid, pid)
        except OSError as error:
            os.close(channel)
            if pidfd >= 0:
                os.close(pidfd)
            if isinstance(error, ChildProcessError):
                raise _LostError("makes processes that are not ours") from error
            return None
        os.set_blocking(channel, False)
        return Recruit(pid, pidfd, channel)

    def _receive(self, control: socket.socket, seconds: float) -> tuple[int, int | None] | None:
        """What it says, as a number (0 for "ready") and a descriptor; None if it says nothing so long."""
        if seconds:
            poll = select.poll()
            poll.register(control, select.POLLIN)
            poll.poll(seconds * 1000)
        try:
            # Not `socket.recv_fds`, which forgets its flags: what came would be inherited by others.
            text, ancillary, _, _ = control.recvmsg(
                MESSAGE_BYTES, socket.CMSG_LEN(INT_BYTES), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        if not text:
            raise _LostError("has ended")
        handed = b"".join(data for _, _, data in ancillary)[:INT_BYTES]
        channel = int.from_bytes(handed, sys.byteorder) if len(handed) == INT_BYTES else None
        return (0 if text == b"ready" else int(text)), channel

    def _expect_within(self, since: float) -> None:
        if self._clock() - since > HUNG_SECONDS:
            raise _LostError(f"has not answered for {HUNG_SECONDS:g} s")

    @contextmanager
    def _losing(self) -> Iterator[None]:
        """What happens in the body to a process that is lost: it is ended, and followed by another."""
        try:
            yield
        except (_LostError, OSError) as error:
            has_ended = isinstance(error, BrokenPipeError | ConnectionResetError)
            what = "has ended" if has_ended else str(error)
            log.warning(
                "the process that starts workers with limits, a user or sockets %s; another is started, and"
                " until it is ready each worker takes an interpreter of its own",
                what,
            )
            self.close()
            twice = min(self._pause * 2 or PAUSE_SECONDS, MAX_PAUSE_SECONDS)
            self._pause = 0.0 if self._is_proven else twice
            self._not_before = self._clock() + self._pause
            self._is_proven = False
            self.begin()

    def close(self) -> None:
        """End the process. Recruits that were handed out are not touched."""
        self._ready, self._asked_at = False, None
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._dying.append((os.P_PIDFD, self._pidfd))
            self._pidfd = -1
        self._bury()

    def _bury(self) -> None:
        self._dying = [one for one in self._dying if not self._buried(*one)]

    def _buried(self, kind: int, number: int) -> bool:
        """Whether a process that was told to end has ended; it is reaped then."""
        try:
            if os.waitid(kind, number, os.WEXITED | os.WNOHANG) is None:
                return False
        except ChildProcessError:
            pass
        if kind == os.P_PIDFD:
            if self._loop is not None:
                self._loop.remove_reader(number)
            os.close(number)
        return True
