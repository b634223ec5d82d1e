"""Wait for a condition, with a bound; the only way a test may wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE_SECONDS = 0.01


def eventually(condition: Callable[[], T], within: float = 30.0, what: str = "") -> T:
    """The first truthy value of `condition`; raises AssertionError after `within` seconds."""
    until = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not true within {within} s: {what or condition}")
        time.sleep(_PAUSE_SECONDS)


async def async_eventually(
    condition: Callable[[], T | Awaitable[T]], within: float = 30.0, what: str = ""
) -> T:
    """As `eventually`, for a loop that must go on turning meanwhile."""
    until = time.monotonic() + within
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not true within {within} s: {what or condition}")
        await asyncio.sleep(_PAUSE_SECONDS)
