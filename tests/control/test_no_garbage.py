"""A connection that has ended leaves nothing to the garbage collector, whose looks hold the loop."""

import asyncio
import gc
import socket
from pathlib import Path

import pytest

from tests.control.plant import plant
from tests.waiting import async_eventually


def ask(path: Path, data: bytes) -> None:
    """Say this and read the answer. Without asyncio, which would leave garbage on our side of the socket."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(str(path))
        one.sendall(data)
        one.recv(65536)


def transports() -> int:
    """How many asyncio has in memory."""
    return sum(type(one).__name__ == "_SelectorSocketTransport" for one in gc.get_objects())


@pytest.mark.parametrize("data", [b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense\r\n\r\n"])
async def test_an_ended_connection_is_freed_at_once(data: bytes) -> None:
    """With the collector off there are as many transports as before."""
    async with plant() as one:
        gc.collect()
        gc.disable()
        try:
            before = transports()
            for _ in range(5):
                await asyncio.to_thread(ask, one.path, data)
            await async_eventually(lambda: not any(each.state.connections for each in one.server._listeners))
            await async_eventually(lambda: transports() <= before, 5, "the transports are freed")
        finally:
            gc.enable()
