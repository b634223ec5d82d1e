"""A control plane on real sockets over a host that only the test moves, and raw clients for it."""

import asyncio
import json
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from supervisor.control.protocol import Limits
from supervisor.control.server import ControlServer
from supervisor.core.effects import Effect
from supervisor.core.events import OperationWish, OperatorWish
from supervisor.core.exits import ExitClass, ExitRecord
from supervisor.core.host import step
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.phases import Phase
from supervisor.core.plan import Condition, HostPlan, Kind, PoolPlan
from supervisor.core.state import Host, create

SECRET = "hunter2-planted-secret"


class StubEngine:
    """Takes wishes with the real core, performs nothing, and lets a test change instances by hand."""

    def __init__(self, plan: HostPlan) -> None:
        self.host: Host = create(plan, now=self.now())
        self.faults = 0
        self.wishes: list[OperatorWish | OperationWish] = []
        self.not_durable: str | None = None
        self.failure: Exception | None = None
        self.environment = {"PASSWORD": SECRET}
        self.waiting = 0
        self._condition = asyncio.Condition()

    def now(self) -> float:
        """As the engine's."""
        return asyncio.get_running_loop().time()

    async def ask(self, wish: OperatorWish | OperationWish) -> tuple[Effect, ...]:
        """As the engine's, with what the test prepared."""
        self.wishes.append(wish)
        if self.failure is not None:
            raise self.failure
        effects = step(self.host, wish, self.now())
        await self.turned()
        return effects

    async def changed(self, after: int) -> None:
        """As the engine's; who waits is counted."""
        self.waiting += 1
        try:
            async with self._condition:
                await self._condition.wait_for(lambda: self.host.revision > after)
        finally:
            self.waiting -= 1

    async def durable(self) -> str | None:
        """What the test prepared."""
        return self.not_durable

    async def turned(self) -> None:
        """Wake who waits for a change."""
        async with self._condition:
            self._condition.notify_all()

    async def put(self, instance: Instance) -> None:
        """Replace an instance, keep the counts, and let the waiters know."""
        census = self.host.census[instance.id.pool]
        census.count(self.host.instances[instance.id], -1)
        census.count(instance, 1)
        self.host.instances[instance.id] = instance
        self.host.revision += 1
        await self.turned()

    async def all_running(self) -> None:
        """Every instance runs and is ready."""
        for number, instance in enumerate(list(self.host.instances.values())):
            now = self.now()
            await self.put(
                instance._replace(
                    phase=Phase.RUNNING,
                    ready=True,
                    pid=1000 + number,
                    generation=1,
                    since=now - 5.0,
                    started_at=now - 6.0,
                )
            )


def plan(instances: int = 2, name: str = "shop") -> HostPlan:
    """Three pools: emails, web which depends on it, and a reports pool that is not critical."""
    pools = [
        PoolPlan("emails", instances=instances),
        PoolPlan("web", instances=1, depends_on={"emails": Condition.READY}),
        PoolPlan("reports", instances=1, critical=False, kind=Kind.SERVICE),
    ]
    return HostPlan(name, {pool.name: pool for pool in pools})


def an_exit(engine: StubEngine, *lines: str) -> ExitRecord:
    """A failed generation that ended three seconds ago."""
    return ExitRecord(1, ExitClass.FAILURE, "exit 1", engine.now() - 3.0, 2.5, last_lines=lines)


EMAILS = InstanceId("emails", 0)


class Plant:
    """A running server with its clients."""

    def __init__(
        self, engine: StubEngine, server: ControlServer, path: Path, client: httpx.AsyncClient
    ) -> None:
        self.engine = engine
        self.server = server
        self.path = path
        self.client = client

    @property
    def port(self) -> int:
        """The TCP port."""
        assert self.server.http_address is not None
        return self.server.http_address[1]

    def tcp(self) -> httpx.AsyncClient:
        """A client for the TCP listener."""
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=60.0)

    async def raw(self, data: bytes, *, tcp: bool = False, close: bool = True) -> bytes:
        """Send bytes and read until the server closes; `close` false keeps our side open."""
        reader, writer = await self.connect(tcp=tcp)
        try:
            writer.write(data)
            await writer.drain()
            if close and writer.can_write_eof():
                writer.write_eof()
            return await asyncio.wait_for(reader.read(), 60.0)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def connect(self, *, tcp: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw connection."""
        if tcp:
            return await asyncio.open_connection("127.0.0.1", self.port)
        return await asyncio.open_unix_connection(str(self.path))


@asynccontextmanager
async def plant(
    host_plan: HostPlan | None = None, *, limits: Limits | None = None, **wires: Any
) -> AsyncIterator[Plant]:
    """A control server on a socket in a directory of its own and on a free port."""
    directory = Path(tempfile.mkdtemp(dir="/tmp", prefix="pb"))
    engine = StubEngine(host_plan or plan())
    path = directory / "control.sock"
    server = ControlServer(engine, unix=path, version="0.1.0", http=("127.0.0.1", 0), limits=limits, **wires)
    await server.start()
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    client = httpx.AsyncClient(transport=transport, base_url="http://pitboss", timeout=60.0)
    try:
        yield Plant(engine, server, path, client)
    finally:
        await client.aclose()
        await server.stop()
        shutil.rmtree(directory)


def problem(response: httpx.Response) -> dict[str, Any]:
    """The problem document of an answer, whose envelope is checked here once for all tests."""
    assert response.headers["content-type"] == "application/problem+json"
    body = json.loads(response.content)
    assert set(body) == {"type", "title", "status", "detail", "kind", "hint", "request_id"}
    assert body["status"] == response.status_code
    assert body["request_id"] == response.headers["x-request-id"]
    return dict(body)


def statuses(answer: bytes) -> list[int]:
    """The status codes of the answers in a byte stream, as far as status lines tell."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
