"""One HTTP connection within bounds: how much a client may send, how slowly, and how slowly it may read.

A thin layer over uvicorn's protocol on httptools. What is malformed, too large or too late is
answered here, where possible with a problem document, and the connection is closed; the application
only ever sees whole, bounded requests. Pipelining is not served: a request that arrives before the
answer to the one before it ends the connection after that answer (RFC 9112, 9.3.2 lets a client
retry it).
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from supervisor.control.identifiers import new_request_id
from supervisor.control.peers import peer_of
from supervisor.control.places import Places
from supervisor.control.problems import MEDIA_TYPE, Problem

_SLICE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a connection and (`connections`) of a listener. Sizes are bytes."""

    head_bytes: int = 16 * 1024
    body_bytes: int = 64 * 1024
    arrival_seconds: float = 10.0
    idle_seconds: float = 30.0
    stall_seconds: float = 30.0
    connections: int = 256


@dataclass(slots=True)
class Serving:
    """What the connections of one listener share; uvicorn's protocol calls it the state of a server."""

    connections: set["BoundedProtocol"] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    default_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    total_requests: int = 0


@dataclass(frozen=True, slots=True)
class _Settings:
    """What uvicorn's protocol reads of its configuration.

    Not its own class: with that come a command line, TLS, and what manages processes.
    """

    loaded_app: ASGIApp
    timeout_keep_alive: int
    loaded: bool = True
    ws_protocol_class: None = None
    root_path: str = ""
    asgi_version: str = "3.0"
    limit_concurrency: None = None
    reset_contextvars: bool = False


class BoundedProtocol(HttpToolsProtocol):
    """A connection of the control plane."""

    def __init__(self, app: ASGIApp, serving: Serving, limits: Limits, places: Places) -> None:
        settings = _Settings(app, int(limits.idle_seconds))
        super().__init__(cast(Any, settings), cast(Any, serving), {}, asyncio.get_running_loop())
        # Every wish has a line of its own; uvicorn would write one for each look as well.
        self.access_log = False
        self._limits = limits
        self._places = places
        self._in_head = True
        self._serving = False
        self._fed = 0
        self._head = 0
        self._body = 0
        self._refusal: Problem | None = None
        self._deaf = False
        self._ended = asyncio.Event()
        self._arrival: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    # ── the connection ───────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, if there is a place for it."""
        stream = cast(asyncio.Transport, transport)
        # All of them are of this class; uvicorn has another one for websockets.
        if not self._places.admit(cast(set[BoundedProtocol], self.connections), self.loop.time()):
            self.transport = stream
            self._deaf = True
            stream.abort()
            return
        super().connection_made(stream)
        # With no slack, a client that does not read is noticed at the first byte that waits for it.
        stream.set_write_buffer_limits(high=0)
        self.app_state = {"peer": peer_of(stream.get_extra_info("socket")), "ended": self._ended}
        self._await_arrival()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the timers with the connection."""
        self._arrived()
        self._unstall()
        self._ended.set()
        super().connection_lost(exc)
        # asyncio's transport keeps a method of its own, a cycle that only the garbage collector would find.
        getattr(self.transport, "__dict__", {}).pop("_read_ready_cb", None)
        self._unset_keepalive_if_required()

    @property
    def waited_for_since(self) -> float | None:
        """Since when this client keeps us waiting: for its request, its reading, or its next request."""
        for timer, seconds in (
            (self._arrival, self._limits.arrival_seconds),
            (self._stall, self._limits.stall_seconds),
            (self.timeout_keep_alive_task, self.timeout_keep_alive),
        ):
            if timer is not None:
                return timer.when() - seconds
        return None

    def make_way(self) -> None:
        """Give up the place at once; the transport reports its end with the next turn."""
        self.connections.discard(self)
        self._deaf = True
        self.transport.abort()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio allows it
        """A client that has said its last still gets the answer to what it said."""
        if self._answering and not self.cycle.more_body:
            self.cycle.keep_alive = False
            self._ended.set()
            return True
        return False

    def pause_writing(self) -> None:
        """The client does not read fast enough; it has a while to catch up."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self._limits.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read everything."""
        self._unstall()
        super().resume_writing()

    def _unstall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    @property
    def _answering(self) -> bool:
        # A cycle is None until the first request, whatever its annotation says.
        cycle = cast(object, self.cycle)
        return cycle is not None and not self.cycle.response_complete

    # ── the bounds ───────────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        """Feed the parser, slice by slice, for as long as the request stays within bounds."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        if self._arrival is None:
            self._await_arrival()
        for start in range(0, len(data), _SLICE_BYTES):
            piece = data[start : start + _SLICE_BYTES]
            self._fed += len(piece)
            try:
                self._check_fed()
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade:
                self._last_request()
            except httptools.HttpParserError:
                self._refuse(
                    self._refusal or Problem("bad-request", "cannot serve the request: it is not valid HTTP")
                )
            except Problem as problem:
                self._refuse(problem)
            if self._deaf or self.transport.is_closing():
                return

    def on_message_begin(self) -> None:
        """A request begins; refused while another one is answered."""
        if self._answering:
            self._last_request()
            raise Problem("bad-request", "pipelined")
        self._in_head, self._head, self._body = True, 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request line."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are counted and dropped, because the request is being served already."""
        self._count_head(len(name) + len(value) + 4)
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: refuse a body that announces itself as too large, or serve the request."""
        self._in_head = False
        for name, value in self.headers:
            if name == b"content-length" and len(value) < 20 and int(value) > self._limits.body_bytes:
                self._too_large()
        super().on_headers_complete()
        self._serving = True

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body += len(body)
        if self._body > self._limits.body_bytes:
            self._too_large()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        super().on_message_complete()
        self._arrived()
        self._in_head, self._serving, self._fed = True, False, 0

    def _check_fed(self) -> None:
        # Counts what the parser holds back too: one endless header, or chunks that are all framing.
        allowed = self._limits.head_bytes + _SLICE_BYTES
        if self._in_head:
            if self._fed > allowed:
                raise self._head_problem()
        elif self._fed > allowed + 2 * self._limits.body_bytes:
            self._too_large()

    def _count_head(self, size: int) -> None:
        self._head += size
        if self._head > self._limits.head_bytes:
            self._refusal = self._head_problem()
            raise self._refusal

    def _head_problem(self) -> Problem:
        most = self._limits.head_bytes
        return Problem(
            "headers-too-large",
            f"cannot serve the request: its line and headers are longer than {most} bytes",
        )

    def _too_large(self) -> None:
        most = self._limits.body_bytes
        self._refusal = Problem(
            "too-large", f"cannot serve the request: its body is longer than {most} bytes"
        )
        raise self._refusal

    # ── the ends ─────────────────────────────────────────────────────────────────────────────────

    def _last_request(self) -> None:
        """Answer what is being answered, hear nothing more, and close."""
        self._deaf = True
        self._arrived()
        if self._answering:
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answer with a problem if this request has no answer yet, and close."""
        if self._deaf:
            return
        self._deaf = True
        self._arrived()
        if self._answering:
            if self.cycle.response_started or not self.cycle.more_body:
                self.cycle.keep_alive = False
                return
            # The application awaits the rest of the body; it learns that there will be none.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        elif self._serving:
            # The answer was given before the body was whole; a second one would be taken for another's.
            self.transport.close()
            return
        self.transport.write(_raw_answer(problem))
        self.transport.close()

    def _await_arrival(self) -> None:
        self._arrived()
        self._arrival = self.loop.call_later(self._limits.arrival_seconds, self._too_late)

    def _arrived(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _too_late(self) -> None:
        if self._fed == 0:
            self.transport.close()
        else:
            self._refuse(Problem("timeout", "cannot serve the request: it did not arrive in time"))

    def _unsupported_upgrade_warning(self) -> None:
        # Nothing to upgrade to is not worth a line for each request that offers it.
        return


def _raw_answer(problem: Problem) -> bytes:
    request_id = new_request_id()
    body = problem.body(request_id)
    head = (
        f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nx-request-id: {request_id}\r\n"
        "cache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return STATUS_LINE[problem.status] + head.encode("ascii") + body
