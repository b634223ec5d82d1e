"""Who asks and who answers: a prober of one instance, and listeners that tell a story, good or nasty."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from supervisor.core.effects import Check
from supervisor.core.events import CheckFailed, CheckKind, CheckPassed, Event
from supervisor.core.identity import InstanceId
from supervisor.core.launch import CheckTarget, Launch, LogPolicy
from supervisor.runtime.checks import Checks
from tests.waiting import async_eventually

API = InstanceId("api", 0)
LONG = 60.0


class Prober:
    """Checks of one instance, of which each generation has the same targets."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.targets: dict[CheckKind, CheckTarget] = {}
        self.checks = Checks(post=self.events.append, launch=lambda *_: self.launch())

    def launch(self) -> Launch:
        """What the manifest would say."""
        return Launch(
            argv=("true",),
            environment={},
            working_directory="/",
            logs=LogPolicy(None),
            readiness=self.targets.get(CheckKind.READINESS),
            liveness=self.targets.get(CheckKind.LIVENESS),
            drain=self.targets.get(CheckKind.DRAIN),
            until=self.targets.get(CheckKind.UNTIL),
        )

    async def ask(
        self, target: CheckTarget, seconds: float = LONG, kind: CheckKind = CheckKind.READINESS
    ) -> str | None:
        """Perform one check: None if it passes, else the reason."""
        self.events.clear()
        self.targets[kind] = target
        self.checks.check(Check(API, 1, kind, seconds))
        assert self.events == []
        await async_eventually(lambda: self.events)
        (event,) = self.events
        if isinstance(event, CheckPassed):
            assert event == CheckPassed(API, 1, kind)
            return None
        assert isinstance(event, CheckFailed)
        assert (event.instance, event.generation, event.check) == (API, 1, kind)
        assert "\n" not in event.reason
        return event.reason


Story = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """A server that tells one story to each connection, and keeps what it was asked."""

    def __init__(self, story: Story) -> None:
        self.asked: list[bytes] = []
        self.open = 0
        self.port = 0
        self._story = story
        self._talks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, where: Path | None = None, tls: ssl.SSLContext | None = None) -> "Listener":
        """Listen on a free port, or at a path."""
        if where is not None:
            self._server = await asyncio.start_unix_server(self._talk, where, ssl=tls)
        else:
            self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=tls)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/healthz"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        self.open += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                self.asked.append(await reader.readuntil(b"\r\n\r\n"))
                await self._story(reader, writer)
        finally:
            self.open -= 1
            self._talks.discard(task)
            writer.transport.abort()

    async def close(self) -> None:
        """Stop, and cut off whoever is still connected."""
        assert self._server is not None
        self._server.close()
        for task in self._talks:
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)


Listen = Callable[..., Awaitable[Listener]]


def saying(*parts: bytes) -> Story:
    """Write these one after the other, and close."""

    async def story(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    return story


def answering(status: bytes, *headers: bytes) -> Story:
    """A small, decent answer."""
    return saying(b"\r\n".join([b"HTTP/1.1 " + status, b"Content-Length: 2", *headers, b"", b"ok"]))


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Say nothing until the other side leaves."""
    await reader.read()


async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Headers without an end, a byte at a time, until the other side leaves: each keeps hopes up."""
    left = asyncio.ensure_future(reader.read())
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not left.done():
        writer.write(b".")
        await writer.drain()
        await asyncio.wait({left}, timeout=0.01)


def endless(head: bytes, chunk: bytes) -> Story:
    """Much more than anybody would read."""

    async def story(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(chunk)
            await writer.drain()

    return story
