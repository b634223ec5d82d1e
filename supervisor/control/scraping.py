"""`GET /metrics`: which of two formats the client gets, and its text sent without holding the loop.

Decides what an `Accept` header means. It knows nothing of metrics: the text comes in pieces from
whoever renders it, some of them empty, and after each the loop may turn. A thousand pools are 4 MB,
which take 5 ms to write in one go, so the text is sent in pieces as well.
"""

import asyncio
from collections.abc import Iterator, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from supervisor.control.plane import Call

PIECE_BYTES = 64 * 1024
"""What is written to a socket before the loop turns."""

_MOST_RANGES = 32

_TEXT = {"text/plain": 3, "text/*": 2, "*/*": 1}


def wants_openmetrics(accept: str) -> bool:
    """Whether a client with this `Accept` prefers OpenMetrics 1.0 to Prometheus text (RFC 9110, 12.5.1).

    Only who names OpenMetrics gets it: a browser or curl that takes anything can read the text. Who
    accepts neither gets the text too.
    """
    openmetrics, text, rank = 0.0, 0.0, 0
    for part in accept.split(",", _MOST_RANGES)[:_MOST_RANGES]:
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        found = dict(word.partition("=")[::2] for word in parameters)
        weight, version = _weight(found.get("q", "1")), found.get("version", "").strip('"')
        if kind == "application/openmetrics-text" and version in {"", "1.0.0"}:
            openmetrics = max(openmetrics, weight)
        elif _TEXT.get(kind, 0) > rank:
            text, rank = weight, _TEXT[kind]
        elif rank and _TEXT.get(kind) == rank:
            text = max(text, weight)
    return openmetrics > 0 and openmetrics >= text


def _weight(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 <= value <= 1 else 0.0


async def metrics(call: Call) -> Response:
    """What Prometheus scrapes."""
    wanted = wants_openmetrics(",".join(call.request.headers.getlist("accept")))
    renderer = call.plane.renderer
    pieces: list[bytes] = []
    async with renderer.gate():
        kind, text = call.plane.metrics(wanted)
        for piece in text:
            if piece:
                pieces.append(piece)
            await renderer.pause()
    return _Pieces(pieces, kind)


class _Pieces(Response):
    """A body in pieces. They are shared with what the renderer keeps, so a slow client costs no copy."""

    def __init__(self, pieces: Sequence[bytes], media_type: str) -> None:
        super().__init__(media_type=None)
        self._pieces = pieces
        size = sum(map(len, pieces))
        self.raw_headers = [
            (b"content-type", media_type.encode("ascii")),
            (b"content-length", str(size).encode()),
            (b"vary", b"Accept"),
        ]

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            for written in _portions(self._pieces):
                await send({"type": "http.response.body", "body": written, "more_body": True})
                await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _portions(pieces: Sequence[bytes]) -> Iterator[bytes]:
    """The same bytes in portions of at least `PIECE_BYTES`, but for the last, and less than twice that."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        for start in range(0, len(piece), PIECE_BYTES):
            portion = piece[start : start + PIECE_BYTES]
            waiting.append(portion)
            size += len(portion)
            if size >= PIECE_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
