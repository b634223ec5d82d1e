"""The web application of the demo: one quick page, one slow one, and a health check."""

import asyncio
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

LONGEST_SECONDS = 25.0


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
    await asyncio.sleep(max(seconds, 0.0))
    return PlainTextResponse(f"{seconds:g} seconds later, still {name()}\n")


async def healthz(_: Request) -> PlainTextResponse:
    """Say that this process can serve."""
    return PlainTextResponse("ok\n")


app = Starlette(routes=[Route("/", home), Route("/slow", slow), Route("/healthz", healthz)])
