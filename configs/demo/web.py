"""The web application of the demo: one quick page, one slow one, a health check, and a way to see it idle."""

import asyncio
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

LONGEST_SECONDS = 25.0

requests_in_flight = 0


def name() -> str:
    """Which process answers."""
    return f"{os.environ.get('PITBOSS_INSTANCE', '?')} generation {os.environ.get('PITBOSS_GENERATION', '?')}"


async def home(_: Request) -> PlainTextResponse:
    """Answer at once."""
    return PlainTextResponse(f"hello from {name()}\n")


async def slow(request: Request) -> PlainTextResponse:
    """Answer after `?seconds=` (5 unless given): a request to be in the middle of."""
    try:
        seconds = min(float(request.query_params.get("seconds", "5")), LONGEST_SECONDS)
    except ValueError:
        return PlainTextResponse("seconds: expected a number\n", status_code=400)
    global requests_in_flight  # noqa: PLW0603 - one process, one loop, one count
    requests_in_flight += 1
    try:
        await asyncio.sleep(max(seconds, 0.0))
    finally:
        requests_in_flight -= 1
    return PlainTextResponse(f"{seconds:g} seconds later, still {name()}\n")


async def healthz(_: Request) -> PlainTextResponse:
    """Say that this process can serve."""
    return PlainTextResponse("ok\n")


async def idle(_: Request) -> PlainTextResponse:
    """Say whether nothing is in flight: pitbossd asks while it drains this process."""
    status = 409 if requests_in_flight else 200
    return PlainTextResponse(f"{requests_in_flight} in flight\n", status_code=status)


app = Starlette(
    routes=[Route("/", home), Route("/slow", slow), Route("/healthz", healthz), Route("/idle", idle)]
)
