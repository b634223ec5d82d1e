"""Long polls: how a request waits for a change without holding anything but its place.

Places are few; whoever finds none is answered at once with what there is, and asks again. A waiter
leaves when its condition holds, its time is over, its client has gone or said its last, or the
server stops.
"""

import asyncio
from collections.abc import Callable

from supervisor.control.port import EnginePort

PLACES = 128


class WaitingRoom:
    """The places for waiting requests."""

    def __init__(self, engine: EnginePort, places: int = PLACES) -> None:
        self._engine = engine
        self._free = places
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Send everybody away with an answer, now and from now on."""
        self._closing.set()

    async def until(self, condition: Callable[[], bool], seconds: float, ended: asyncio.Event) -> None:
        """Return when `condition` holds, or earlier; see above. It is asked after each change of the host.

        `ended` is set when the client has closed its side, wholly or only for writing.
        """
        if seconds <= 0 or self._free <= 0 or self._closing.is_set() or condition():
            return
        self._free -= 1
        leaving: set[asyncio.Task[object]] = {
            asyncio.create_task(ended.wait()),
            asyncio.create_task(self._closing.wait()),
        }
        try:
            async with asyncio.timeout(seconds):
                await self._changes(condition, leaving)
        except TimeoutError:
            pass
        finally:
            self._free += 1
            for one in leaving:
                one.cancel()
            await asyncio.gather(*leaving, return_exceptions=True)

    async def _changes(self, condition: Callable[[], bool], leaving: set[asyncio.Task[object]]) -> None:
        while not condition() and not any(one.done() for one in leaving):
            change: asyncio.Task[object] = asyncio.create_task(
                self._engine.changed(self._engine.host.revision)
            )
            try:
                await asyncio.wait({change, *leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                change.cancel()
                await asyncio.gather(change, return_exceptions=True)
