"""The application of `configs/gunicorn.yaml` and `configs/uvicorn.yaml`: slow answers that can be checked.

`/?token=abc&seconds=0.3` answers with the token a thousand times, half of it at once and half of it after
that time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

from supervisor.worker import notify

REPEATS = 1000
LONGEST_SECONDS = 60.0

Message = dict[str, Any]


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer under gunicorn."""
    half, seconds = asked(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(2 * len(half)))])
    return _slowly(half, seconds)


def _slowly(half: bytes, seconds: float) -> Iterator[bytes]:
    yield half
    time.sleep(seconds)
    yield half


async def asgi(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Answer under uvicorn."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["type"] == "http":
        half, seconds = asked(scope["query_string"].decode("latin-1"))
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % (2 * len(half)))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await asyncio.sleep(seconds)
        await send({"type": "http.response.body", "body": half})


async def _live(
    receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            # Connections that come before it listens wait in the socket, which is open already.
            notify.ready()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return


def asked(query: str) -> tuple[bytes, float]:
    """One half of the answer, and how long to wait before the other, seconds."""
    values = parse_qs(query)
    token = values.get("token", ["hello"])[0][:100]
    seconds = float(values.get("seconds", ["0"])[0])
    return token.encode() * (REPEATS // 2), min(max(seconds, 0.0), LONGEST_SECONDS)
