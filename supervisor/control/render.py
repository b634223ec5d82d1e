"""From the host to bytes, without ever holding the loop for long.

Three measures, each for a cost that was measured: an instance is a value, so its text is kept until
it is another value, with holes for the ages; a large document is put together in slices, from
references that were all taken at one moment; and one gate lets only one large document per turn of
the loop be put together, because asyncio serves every ready client before it looks at a dying
worker again. A document is also kept for as long as its ages, which have one decimal, stay true.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import chain

from supervisor.control import shapes
from supervisor.control.documents import Age
from supervisor.control.port import EnginePort
from supervisor.core.health import PoolHealth, host_reasons, pool_health
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance
from supervisor.core.state import Pool

SLICE_SECONDS = 0.001
"""How long rendering goes on before the loop turns. An instance takes 2 us from kept text, 30 us without."""

KEPT_SECONDS = 0.1
UNGATED_BYTES = 16 * 1024

FAULT_REASON = "a step broke an invariant; see the log"


@dataclass(frozen=True, slots=True)
class Document:
    """A rendered answer and the revision of the host that it shows."""

    revision: int
    body: bytes
    status: int = 200


@dataclass(frozen=True, slots=True)
class _Fragment:
    """The text of one instance: a %-template, and for each hole the line that gives its value over time."""

    instance: Instance
    template: str
    holes: tuple[tuple[float, float], ...]

    def text(self, now: float) -> str:
        return self.template % tuple([max(0.0, base + slope * now) for base, slope in self.holes])


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Everything a document is made of, taken at one moment."""

    revision: int
    now: float
    pools: Sequence[tuple[Pool, PoolHealth]]
    instances: dict[InstanceId, Instance]


@dataclass(frozen=True, slots=True)
class _Well:
    """An answer about health: of which revision and count of faults, and when it was begun."""

    state: tuple[int, int]
    began: float
    document: Document


class _Pace:
    """Lets the loop turn when it was held long enough."""

    def __init__(self) -> None:
        self.go_on()

    def go_on(self) -> None:
        """A slice begins now."""
        self._until = time.perf_counter() + SLICE_SECONDS

    async def pause(self) -> None:
        """Call it after each small piece of work."""
        if time.perf_counter() >= self._until:
            await asyncio.sleep(0)
            self.go_on()


class Renderer:
    """Renders documents of one host. `started_at` is when the daemon began, monotonic seconds."""

    def __init__(self, engine: EnginePort, version: str, started_at: float) -> None:
        self._engine = engine
        self._version = version
        self._started_at = started_at
        self._turn = asyncio.Semaphore(1)
        self._pace = _Pace()
        self._fragments: dict[InstanceId, _Fragment] = {}
        self._kept: dict[str, tuple[str, float, Document]] = {}
        self._wells: dict[str, _Well] = {}
        self._well_lock = asyncio.Lock()

    def gate(self) -> AbstractAsyncContextManager[None]:
        """Enter it for anything that takes more than a fraction of a millisecond."""
        return self._gate()

    @asynccontextmanager
    async def _gate(self) -> AsyncIterator[None]:
        async with self._turn:
            await asyncio.sleep(0)
            self._pace.go_on()
            yield
            await asyncio.sleep(0)

    async def status(self) -> Document:
        """The whole host."""
        return await self._keep("status", "", self._render_status)

    async def pools(self) -> Document:
        """Every pool with its instances."""
        return await self._keep("pools", "", self._render_pools)

    async def pool(self, name: str) -> Document:
        """One pool with its instances."""
        return await self._keep("pool", name, lambda: self._render_pool(name))

    def instance(self, identity: InstanceId) -> Document:
        """One instance."""
        host, now = self._engine.host, self._engine.now()
        text = self._fragment(host.instances[identity]).text(now)
        return Document(host.revision, f'{{"revision":{host.revision},{text[1:]}'.encode("ascii"))

    def _reasons(self, healths: Sequence[tuple[Pool, PoolHealth]]) -> tuple[str, ...]:
        """Why the host is not ready."""
        reasons = host_reasons(self._engine.host, {pool.name: health for pool, health in healths})
        return (*reasons, FAULT_REASON) if self._engine.faults else reasons

    async def readiness(self) -> Document:
        """What `/readyz` says; 503 with the reasons when not ready."""
        return await self._well("readyz", self._render_readiness)

    async def health(self) -> Document:
        """What `/health` says; its status follows `/readyz`."""
        return await self._well("health", self._render_health)

    async def _keep(self, kind: str, name: str, render: Callable[[], Awaitable[Document]]) -> Document:
        small = self._known(kind, name)
        if small is not None and len(small.body) <= UNGATED_BYTES:
            return small
        # Also for what is kept: to write a large document to a socket takes long enough.
        async with self.gate():
            document = self._known(kind, name)
            if document is None:
                began = self._engine.now()
                document = await render()
                self._kept[kind] = (name, began + KEPT_SECONDS, document)
        return document

    def _known(self, kind: str, name: str) -> Document | None:
        known = self._kept.get(kind)
        if known is None or known[0] != name or known[1] <= self._engine.now():
            return None
        return known[2] if known[2].revision == self._engine.host.revision else None

    async def _well(self, kind: str, render: Callable[[_Pace], Awaitable[Document]]) -> Document:
        """Health depends on nothing but the state, so it is worked out once for each revision of it.

        Not behind the gate: whoever asks whether the host is well must not queue behind large documents.
        """
        arrived = self._engine.now()
        async with self._well_lock:
            state = (self._engine.host.revision, self._engine.faults)
            known = self._wells.get(kind)
            # What was begun after this request came is fresh enough, whatever has happened since.
            if known is None or (known.state != state and known.began < arrived):
                began = self._engine.now()
                known = self._wells[kind] = _Well(state, began, await render(_Pace()))
        return known.document

    async def _healths(self, pace: _Pace) -> list[tuple[Pool, PoolHealth]]:
        """Each as of some moment of this call; pools that go meanwhile are left out."""
        host, found = self._engine.host, []
        for name in tuple(host.pools):
            if name in host.pools:
                found.append((host.pools[name], pool_health(host, name)))
            await pace.pause()
        return found

    async def _render_readiness(self, pace: _Pace) -> Document:
        revision = self._engine.host.revision
        reasons = self._reasons(await self._healths(pace))
        body = json.dumps({"ready": not reasons, "reasons": reasons}).encode()
        return Document(revision, body, 503 if reasons else 200)

    async def _render_health(self, pace: _Pace) -> Document:
        host = self._engine.host
        revision, healths = host.revision, await self._healths(pace)
        reasons = self._reasons(healths)
        if host.shutdown is not None:
            status = "shutting-down"
        elif reasons:
            status = "unhealthy"
        else:
            status = "healthy" if all(health.ok for _, health in healths) else "degraded"
        head = json.dumps({"status": status, "ready": not reasons, "reasons": reasons})
        pools = []
        for pool, health in healths:
            pools.append(json.dumps(shapes.pool_health_shape(pool, health)))
            await pace.pause()
        body = f'{head[:-1]}, "pools": [{", ".join(pools)}]}}'
        return Document(revision, body.encode("ascii"), 503 if reasons else 200)

    def _snapshot(self, names: Sequence[str] | None = None) -> _Snapshot:
        host = self._engine.host
        chosen = host.pools if names is None else names
        pools = [(host.pools[name], pool_health(host, name)) for name in chosen]
        return _Snapshot(host.revision, self._engine.now(), pools, host.instances.copy())

    async def _render_status(self) -> Document:
        host = self._engine.host
        snapshot = self._snapshot()
        uptime = snapshot.now - self._started_at
        head = shapes.host_shape(host, self._reasons(snapshot.pools), self._version, uptime, snapshot.now)
        return await self._with_pools(head, snapshot)

    async def _render_pools(self) -> Document:
        snapshot = self._snapshot()
        return await self._with_pools({"revision": snapshot.revision}, snapshot)

    async def _render_pool(self, name: str) -> Document:
        snapshot = self._snapshot([name])
        pool, health = snapshot.pools[0]
        pieces: list[str] = []
        await self._pool_text(pieces, {"revision": snapshot.revision}, pool, health, snapshot)
        return Document(snapshot.revision, "".join(pieces).encode("ascii"))

    async def _with_pools(self, head: Mapping[str, object], snapshot: _Snapshot) -> Document:
        pieces = [json.dumps(head)[:-1], ',"pools":[']
        for number, (pool, health) in enumerate(snapshot.pools):
            if number:
                pieces.append(",")
            await self._pool_text(pieces, {}, pool, health, snapshot)
        pieces.append("]}")
        return Document(snapshot.revision, "".join(pieces).encode("ascii"))

    async def _pool_text(
        self,
        pieces: list[str],
        head: Mapping[str, object],
        pool: Pool,
        health: PoolHealth,
        snapshot: _Snapshot,
    ) -> None:
        pieces.append(json.dumps({**head, **shapes.pool_shape(pool, health)})[:-1])
        pieces.append(',"instances":[')
        # One by one: the names of a thousand take a millisecond, before there is anything to pause at.
        declared = (InstanceId(pool.name, index) for index in range(pool.plan.instances))
        for number, identity in enumerate(chain(declared, pool.surge)):
            if number:
                pieces.append(",")
            fragment = self._fragment(snapshot.instances[identity])
            pieces.append(fragment.text(snapshot.now))
            await self.pause()
        pieces.append("]}")
        await self.pause()

    async def pause(self) -> None:
        """Let the loop turn if it was held long enough. Only whoever holds the gate renders in slices."""
        await self._pace.pause()

    def _fragment(self, instance: Instance) -> _Fragment:
        known = self._fragments.get(instance.id)
        if known is None or known.instance is not instance:
            known = self._fragments[instance.id] = _fragment(instance)
        return known


# By chance, so that no worker can put it into a text of its own.
_MARK = os.urandom(12).hex()
_MARK_TEXT = json.dumps(_MARK)


def _fragment(instance: Instance) -> _Fragment:
    """The text of an instance with a hole where each `Age` is."""
    holes: list[tuple[float, float]] = []

    def hole(value: object) -> str:
        if not isinstance(value, Age):
            raise TypeError(f"cannot render {value!r}")
        holes.append((value.moment, -1.0) if value.left else (-value.moment, 1.0))
        return _MARK

    text = json.dumps(shapes.instance_shape(instance), default=hole)
    pieces = text.split(_MARK_TEXT)
    return _Fragment(instance, "%.1f".join(piece.replace("%", "%%") for piece in pieces), tuple(holes))
