"""Tell the systemd above the daemon how it is doing, by sd_notify(3).

Decides when the daemon is ready, alive and ending, and how much longer its end may take. The word
that it is alive is said only after the engine has taken an event: a loop that hangs, or an engine that
takes nothing, falls silent, and systemd restarts the daemon. Without NOTIFY_SOCKET nothing is said.
What workers say to us is the business of `notify`, and is never passed on.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from supervisor.core.effects import Report
from supervisor.core.state import Host

log = logging.getLogger(__name__)

EXTENSION_SECONDS = 20.0
"""How much time is asked for at once while the host goes: a daemon that hangs then is ended after it."""

EXTEND_EVERY_SECONDS = 5.0
"""How often it is asked for. A daemon on a crowded machine may be late by the difference."""

CLOSING_SECONDS = 5.0
"""What the daemon may take after the last instance is gone: to write its journal and close its sockets."""

STATUS_PAUSE_SECONDS = 1.0
"""The status line follows the host at most this often, and not at all while nothing happens."""


class NotifyLine:
    """Assignments on their way to the socket that systemd listens on; nothing here ever waits.

    What cannot be sent now is kept, the latest value of each name, and goes out as soon as there is room.
    """

    def __init__(self, address: str) -> None:
        # A leading @ stands for the NUL of an abstract address (sd_notify(3)).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._pending: dict[str, str] = {}
        self._endpoint: socket.socket | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting = False
        self._complained = False

    def tell(self, assignments: Mapping[str, str]) -> None:
        """Say these, and what is still unsaid."""
        self._pending.update(assignments)
        if not self._waiting:
            self._flush()

    def close(self) -> None:
        """Say no more."""
        if self._endpoint is not None:
            self._stop_waiting(self._endpoint)
            self._endpoint.close()
            self._endpoint = None

    def _flush(self) -> None:
        lines = "\n".join(f"{name}={value}" for name, value in self._pending.items())
        payload = lines.encode("utf-8", "replace")
        for attempt in (1, 2):
            try:
                self._connected().send(payload)
            except BlockingIOError:
                self._wait()
                return
            except OSError as error:
                # systemd may have made its socket anew; one that is not there at all is only noted.
                self.close()
                if attempt == 2 and not self._complained:
                    self._complained = True
                    log.warning("cannot notify systemd at %s: %s", self._address, error.strerror)
            else:
                self._pending.clear()
                return

    def _connected(self) -> socket.socket:
        if self._endpoint is None:
            endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            try:
                endpoint.connect(self._address)
            except BaseException:
                endpoint.close()
                raise
            self._endpoint = endpoint
        return self._endpoint

    def _wait(self) -> None:
        if self._endpoint is not None:
            self._waiting = True
            self._loop.add_writer(self._endpoint, self._writable)

    def _writable(self) -> None:
        if self._endpoint is not None:
            self._stop_waiting(self._endpoint)
        self._flush()

    def _stop_waiting(self, endpoint: socket.socket) -> None:
        if self._waiting:
            self._waiting = False
            self._loop.remove_writer(endpoint)


class Systemd:
    """What the daemon says about itself: ready, status, alive, stopping, and how long that may take.

    `describe` makes the status line from the host and the time. `pulse` returns once the engine has
    taken an event that changes nothing. `watchdog_seconds` is the interval that systemd waits for.
    """

    def __init__(
        self,
        address: str | None,
        watchdog_seconds: float | None,
        *,
        describe: Callable[[Host, float], str],
        pulse: Callable[[], Awaitable[object]],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._line = NotifyLine(address) if address else None
        self._watchdog_seconds = watchdog_seconds
        self._describe = describe
        self._pulse = pulse
        self._host: Host | None = None
        self._stopping = False
        self._said = ""
        self._said_at = float("-inf")
        self._status_timer: asyncio.TimerHandle | None = None
        self._beat_timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.Task[None] | None = None

    @classmethod
    def above(
        cls, *, describe: Callable[[Host, float], str], pulse: Callable[[], Awaitable[object]]
    ) -> "Systemd":
        """The systemd that started this process, by the variables that it set; sd_watchdog_enabled(3)."""
        address = os.environ.get("NOTIFY_SOCKET", "")
        known = address if address[:1] in {"/", "@"} and len(address) > 1 else None
        return cls(known, _watchdog_seconds(os.environ), describe=describe, pulse=pulse)

    def ready(self, host: Host) -> None:
        """The control plane serves and the boot has begun: whoever waits for the daemon may go on."""
        self._host = host
        self._tell({"READY": "1", **self._status()})
        self._arm()

    def observe(self, _reports: Sequence[Report], host: Host, _now: float) -> None:
        """Something happened: the status line follows it soon, and the end of the host is said at once."""
        self._host = host
        if self._line is None:
            return
        if host.shutdown is not None and not self._stopping:
            self._stopping = True
            self._tell({"STOPPING": "1", **self._extension(), **self._status()})
            self._arm()
        elif self._status_timer is None:
            due = max(self._loop.time(), self._said_at + STATUS_PAUSE_SECONDS)
            self._status_timer = self._loop.call_at(due, self._follow)

    async def close(self) -> None:
        """Say no more."""
        for timer in (self._status_timer, self._beat_timer):
            if timer is not None:
                timer.cancel()
        if self._beat is not None:
            self._beat.cancel()
            with suppress(asyncio.CancelledError):
                await self._beat
        if self._line is not None:
            self._line.close()

    def _tell(self, assignments: Mapping[str, str]) -> None:
        if self._line is not None and assignments:
            self._line.tell(assignments)

    def _status(self) -> dict[str, str]:
        """The status line, if it differs from the one that was said last."""
        if self._host is None:
            return {}
        self._said_at = self._loop.time()
        text = self._describe(self._host, self._said_at)
        if text == self._said:
            return {}
        self._said = text
        return {"STATUS": text}

    def _follow(self) -> None:
        self._status_timer = None
        self._tell(self._status())

    def _extension(self) -> dict[str, str]:
        """What is asked for while the host goes; never more than its own deadline leaves it."""
        if self._host is None or self._host.shutdown is None:
            return {}
        left = self._host.shutdown.deadline + CLOSING_SECONDS - self._loop.time()
        seconds = min(EXTENSION_SECONDS, left)
        return {"EXTEND_TIMEOUT_USEC": str(int(seconds * 1_000_000))} if seconds > 0 else {}

    def _arm(self) -> None:
        """Set the moment of the next proof of life."""
        if self._beat_timer is not None:
            self._beat_timer.cancel()
            self._beat_timer = None
        pause = EXTEND_EVERY_SECONDS if self._stopping else (self._watchdog_seconds or 0.0) / 2
        if self._line is not None and pause and (self._beat is None or self._beat.done()):
            self._beat_timer = self._loop.call_later(pause, self._ring)

    def _ring(self) -> None:
        self._beat_timer = None
        self._beat = self._loop.create_task(self._prove())

    async def _prove(self) -> None:
        """Say that the daemon is alive once the engine has shown it; it waits here as long as that takes."""
        try:
            await self._pulse()
        except Exception:
            log.exception("the engine cannot take an event: systemd is not told that the daemon is alive")
        else:
            alive = {"WATCHDOG": "1"} if self._watchdog_seconds else {}
            # The time that is left is part of the line, and passes without an event.
            passing = self._status() if self._stopping else {}
            self._tell({**alive, **self._extension(), **passing})
        self._loop.call_soon(self._arm)


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", ""))
        meant = int(environ.get("WATCHDOG_PID", "") or os.getpid())
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 and meant == os.getpid() else None
