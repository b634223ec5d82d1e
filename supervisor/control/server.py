"""The control plane on its sockets: start, and stop without leaving a client without an answer.

uvicorn's protocol serves the connections; its `Server` is not used. That one wakes up ten times a
second, takes over the signal handlers, and ends the process when it cannot bind.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from supervisor import __version__
from supervisor.control import app
from supervisor.control.acceptor import Acceptor
from supervisor.control.clock import WallClock
from supervisor.control.listeners import ControlError, bind_tcp, bind_unix
from supervisor.control.peers import Gatekeeper
from supervisor.control.places import Places
from supervisor.control.plane import History, Plane, Scrape, no_metrics
from supervisor.control.port import EnginePort
from supervisor.control.protocol import BoundedProtocol, Limits, Serving
from supervisor.control.render import Renderer
from supervisor.control.replays import Replays
from supervisor.control.waiting import WaitingRoom

__all__ = ["ControlError", "ControlServer", "Limits"]

log = logging.getLogger(__name__)

FAREWELL_SECONDS = 2.0
"""How long a stop waits for the answers that are on their way."""


@dataclass(slots=True)
class _Listener:
    """One listening socket. Each has its own connections: a flood on TCP must not lock out the operator."""

    acceptor: Acceptor
    state: Serving
    local: bool


class ControlServer:
    """Serves one engine over a unix socket and, if asked, over TCP. Make it inside the running loop.

    `metrics` renders the metrics, `live` answers `/livez`,
    `history` knows the operations of earlier lives. `started_at` is when the daemon began, in the
    engine's monotonic seconds; by default now.
    """

    def __init__(  # noqa: PLR0913  each is one wire that the composition root connects
        self,
        engine: EnginePort,
        *,
        unix: Path,
        version: str = __version__,
        unix_mode: int = 0o660,
        http: tuple[str, int] | None = None,
        metrics: Scrape = no_metrics,
        live: Callable[[], bool] = lambda: True,
        history: History | None = None,
        started_at: float | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._unix = unix
        self._unix_mode = unix_mode
        self._http = http
        self._limits = limits or Limits()
        self._waiting = WaitingRoom(engine)
        plane = Plane(
            engine=engine,
            renderer=Renderer(engine, version, engine.now() if started_at is None else started_at),
            waiting=self._waiting,
            replays=Replays(),
            gatekeeper=Gatekeeper(unix),
            clock=WallClock(engine.now),
            metrics=metrics,
            live=live,
            description=cache(lambda: _described(version)),
            history=history,
        )
        self._app = app.build(plane)
        self._listeners: list[_Listener] = []
        self._placed: tuple[int, int] | None = None
        self.http_address: tuple[str, int] | None = None

    async def start(self) -> None:
        """Listen; raises `ControlError` and leaves nothing behind if that cannot be."""
        try:
            self._listen_locally()
            if self._http is not None:
                listener = bind_tcp(*self._http)
                host, port = listener.getsockname()[:2]
                self.http_address = (host, port)
                self._serve(listener, f"{host}:{port}", local=False)
        except BaseException:
            await self.stop()
            raise
        log.info("control plane listens on %s%s", self._unix, self._also())

    def open_again(self) -> None:
        """Make the unix socket anew if somebody has removed it; whoever is connected stays so."""
        former = [one.acceptor for one in self._listeners if one.local]
        try:
            if self._placed is None or self._is_in_place():
                return
            self._listen_locally()
        except (ControlError, OSError) as error:
            log.warning("the control socket is gone, and cannot be made again: %s", error)
            return
        for acceptor in former:
            acceptor.close()
        log.warning("the control socket %s was gone, and is there again", self._unix)

    async def stop(self) -> None:
        """Take no more connections, answer what was asked, close; remove the socket if it is still ours."""
        for listener in self._listeners:
            listener.acceptor.close()
        self._remove_socket()
        self._waiting.close()
        connections = [one for listener in self._listeners for one in listener.state.connections]
        for connection in connections:
            connection.shutdown()
        tasks = [one for listener in self._listeners for one in listener.state.tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=FAREWELL_SECONDS)
        for listener in self._listeners:
            for connection in list(listener.state.connections):
                connection.transport.abort()
        # The transports report their end in the next turn; a task must see it before it is cancelled.
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._listeners.clear()

    def _listen_locally(self) -> None:
        listener = bind_unix(self._unix, self._unix_mode)
        try:
            found = os.stat(self._unix)
        except OSError:
            listener.close()
            raise
        self._placed = (found.st_dev, found.st_ino)
        self._serve(listener, str(self._unix), local=True)

    def _serve(self, listener: socket.socket, name: str, *, local: bool) -> None:
        state, places = Serving(), Places(name, self._limits.connections)

        def protocol() -> BoundedProtocol:
            return BoundedProtocol(self._app, state, self._limits, places)

        # An operator on this machine can look why, even when descriptors have run out.
        acceptor = Acceptor(listener, protocol, name, reserve=local)
        self._listeners.append(_Listener(acceptor, state, local))

    def _is_in_place(self) -> bool:
        """Whether the file at the path is the socket that we made. Raises OSError if it cannot be told."""
        try:
            found = os.lstat(self._unix)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._placed

    def _remove_socket(self) -> None:
        if self._placed is None:
            return
        try:
            if self._is_in_place():
                os.unlink(self._unix)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("cannot remove %s: %s; the next start replaces it", self._unix, error.strerror)
        self._placed = None

    def _also(self) -> str:
        return "" if self.http_address is None else " and on {}:{}".format(*self.http_address)


def _described(version: str) -> bytes:
    # Late: few ask for it.
    from supervisor.control import openapi  # noqa: PLC0415

    return openapi.render(version)
