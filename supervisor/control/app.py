"""What every request goes through: its id, the checks of Host, Origin and access, and its problems.

The application is a router over the table in `routes` inside one guard. No exception leaves it, and
no answer of it says more about a bug than that there is one.
"""

import logging
import socket
import time
from collections.abc import Mapping, Sequence

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from supervisor.control.identifiers import REQUEST_ID, new_request_id
from supervisor.control.peers import NOBODY, Peer
from supervisor.control.plane import Call, Plane
from supervisor.control.problems import MEDIA_TYPE, Problem
from supervisor.control.routes import TABLE, Access, Row

log = logging.getLogger(__name__)

_IMF_FIXDATE = "%a, %d %b %Y %H:%M:%S GMT"
"""RFC 9110, 5.6.7. In English as long as nobody sets LC_TIME, which Python leaves alone."""
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_OPEN_PATHS = tuple(row.path for row in TABLE if row.access is Access.OPEN)
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1", "ip6-localhost"})


def build(plane: Plane, table: Sequence[Row] = TABLE) -> ASGIApp:
    """The application that serves `table`."""
    by_path: dict[str, dict[str, Row]] = {}
    for row in table:
        by_path.setdefault(row.path, {})[row.method] = row
    routes = [Route(path, _Path(plane, rows)) for path, rows in by_path.items()]
    return _Guard(plane, Router(routes, redirect_slashes=False, default=_Nowhere(plane)))


class _Guard:
    """The outermost layer."""

    def __init__(self, plane: Plane, inner: ASGIApp) -> None:
        self._plane = plane
        self._inner = inner
        name = socket.gethostname().lower()
        self._names = _LOOPBACK_NAMES | {name, name.partition(".")[0]}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        state = scope["state"]
        request_id = state["request_id"] = _request_id(headers)
        started = False

        async def reply(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *_standing_headers(request_id)]
            await send(message)

        try:
            self._check(scope, state.get("peer", NOBODY))
            await self._inner(scope, receive, reply)
        except ClientDisconnect:
            return
        except Problem as problem:
            await _answer(problem, request_id, scope, receive, reply)
        except Exception:
            log.exception(
                "cannot serve %s %s: the client is told of an internal error",
                scope["method"],
                ascii(scope["path"])[:200],
                extra={"request_id": request_id},
            )
            if started:
                raise
            await _answer(_bug(), request_id, scope, receive, reply)

    def _check(self, scope: Scope, peer: Peer) -> None:
        if not peer.local:
            self._check_host(scope)
        if any(not character.isprintable() for character in scope["path"]):
            if peer.local:
                raise Problem("not-found", "there is no such path: it contains control characters")
            raise _unix_only()
        if scope["method"] not in _SAFE_METHODS and _values(scope["headers"], b"origin"):
            # Only browsers send it. No page has business here, and this is how a forged one shows itself.
            raise Problem(
                "not-permitted", "cannot take a wish from a web page: the request has an Origin header"
            )

    def _check_host(self, scope: Scope) -> None:
        """Refuse a request that was meant for another name: with DNS rebinding a page could read us."""
        values = _values(scope["headers"], b"host")
        if not values and scope["http_version"] == "1.0":
            return
        if len(values) != 1:
            raise Problem("bad-request", "cannot serve the request: expected exactly one Host header")
        name = _host_name(values[0])
        server = scope.get("server")
        if name in self._names or (server is not None and name == str(server[0]).lower()):
            return
        raise Problem(
            "host-not-allowed",
            "cannot serve the request: its Host header does not name this listener",
            "use the address of the listener, localhost, or the host name of the system",
        )


def _values(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _host_name(value: bytes) -> str:
    text = value.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def _request_id(headers: Sequence[tuple[bytes, bytes]]) -> str:
    values = _values(headers, b"x-request-id")
    if len(values) == 1:
        text = values[0].decode("latin-1")
        if REQUEST_ID.fullmatch(text):
            return text
    return new_request_id()


def _standing_headers(request_id: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"date", time.strftime(_IMF_FIXDATE, time.gmtime()).encode()),
        (b"x-request-id", request_id.encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]


async def _answer(problem: Problem, request_id: str, scope: Scope, receive: Receive, send: Send) -> None:
    response = Response(problem.body(request_id), problem.status, problem.headers, MEDIA_TYPE)
    await response(scope, receive, send)


def _bug() -> Problem:
    return Problem("internal", "the request ran into a bug", "look for the request id in the daemon's log")


def _unix_only() -> Problem:
    return Problem(
        "not-permitted",
        "this listener serves only " + ", ".join(_OPEN_PATHS),
        "use the unix socket for everything else",
    )


class _Path:
    """One path of the table: its methods and who may use them."""

    def __init__(self, plane: Plane, rows: Mapping[str, Row]) -> None:
        self._plane = plane
        self._rows = rows
        self._open = all(row.access is Access.OPEN for row in rows.values())
        allowed = set(rows) | ({"HEAD"} if "GET" in rows else set())
        self._allow = ", ".join(sorted(allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer: Peer = scope["state"].get("peer", NOBODY)
        if not self._open:
            _check_access(self._plane, peer)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        row = self._rows.get(method)
        if row is None:
            raise Problem(
                "method-not-allowed", f"this path takes {self._allow}", headers={"Allow": self._allow}
            )
        call = Call(self._plane, Request(scope, receive), peer, scope["state"]["request_id"])
        response = await row.endpoint(call)
        await response(scope, receive, send)


class _Nowhere:
    """Every path that is not in the table."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        _check_access(self._plane, scope["state"].get("peer", NOBODY))
        raise Problem("not-found", "there is no such path", "the HTTP reference lists all paths")


def _check_access(plane: Plane, peer: Peer) -> None:
    if not peer.local:
        raise _unix_only()
    if not plane.gatekeeper.may_operate(peer):
        raise Problem(
            "not-permitted",
            f"{plane.gatekeeper.principal(peer)} may not operate this host",
            f"be root, the daemon's user, or a member of the group {plane.gatekeeper.group()}",
        )
