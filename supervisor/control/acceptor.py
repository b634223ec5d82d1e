"""Take connections from one listening socket, a few per turn of the loop, also when descriptors run out.

asyncio's own server is not used for this: out of descriptors it tries a whole backlog of times at each
turn, logs a traceback for each, and serves nobody. This one says so once a minute, leaves the clients in
the backlog of the kernel, and tries again. With a `reserve` it keeps one descriptor back with which a
single client can still be served: the operator who comes to look why. What is spoken is not known here.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

ACCEPTS_PER_TURN = 16
"""Some 50 us each. The rest comes with the next turn."""

RETRY_SECONDS = 0.5
"""How long nobody is taken after descriptors or memory ran out."""

SECONDS_BETWEEN_COMPLAINTS = 60.0

_LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class _Lent(socket.socket):
    """The connection that has the descriptor of the reserve: its close gives that back at once.

    Not at the next turn of the loop: a worker that waits for a descriptor would be quicker, and keep it.
    """

    given_back: Callable[[], None]

    def close(self) -> None:
        super().close()
        self.given_back()


class Acceptor:
    """Accepts on `listener`, which it owns, and hands each connection to a protocol of `factory`."""

    def __init__(
        self,
        listener: socket.socket,
        factory: Callable[[], asyncio.Protocol],
        name: str,
        *,
        reserve: bool = False,
    ) -> None:
        self._listener = listener
        self._factory = factory
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._reserve = reserve
        self._spare = -1
        self._quiet_until = 0.0
        self._restock()
        self._loop.add_reader(listener.fileno(), self._turn)

    def close(self) -> None:
        """Accept no more. Connections that were taken live on."""
        if self._listener.fileno() < 0:
            return
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        self._reserve = False
        self._use_spare()

    def _turn(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _LACKING:
                    # The client has gone already, or its network has (accept(2)); the next one may not.
                    continue
                self._pause(error)
                if not self._use_spare():
                    return
                try:
                    accepted, _ = self._listener.accept()
                except OSError:
                    return
                connection = _Lent(fileno=accepted.detach())
                connection.given_back = self._restock
            self._take(connection)
            if self._retry is not None:
                return

    def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        made = self._loop.connect_accepted_socket(self._factory, connection)
        task: asyncio.Task[object] = self._loop.create_task(made)
        self._tasks.add(task)
        task.add_done_callback(self._taken)

    def _taken(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("cannot serve a client on %s: %s", self._name, task.exception())

    def _pause(self, error: OSError) -> None:
        now = self._loop.time()
        if now >= self._quiet_until:
            self._quiet_until = now + SECONDS_BETWEEN_COMPLAINTS
            log.error(
                "cannot accept clients on %s: %s; they wait until there is room again",
                self._name,
                os.strerror(error.errno or 0).lower(),
            )
        self._loop.remove_reader(self._listener.fileno())
        self._retry = self._loop.call_later(RETRY_SECONDS, self._resume)

    def _resume(self) -> None:
        self._retry = None
        self._restock()
        self._loop.add_reader(self._listener.fileno(), self._turn)

    def _restock(self) -> None:
        if self._reserve and self._spare < 0:
            try:
                self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                # Whoever got the last one is still being served.
                return

    def _use_spare(self) -> bool:
        if self._spare < 0:
            return False
        os.close(self._spare)
        self._spare = -1
        return True
