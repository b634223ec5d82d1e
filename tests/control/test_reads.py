"""What the readers are told: shapes, ages, health, and operations."""

import asyncio
import json
from typing import ClassVar

import pytest

from supervisor.control.clock import WallClock
from supervisor.control.render import Renderer
from supervisor.core.phases import Phase
from supervisor.core.plan import HostPlan, PoolPlan
from tests.control.climbing import climbing
from tests.control.plant import EMAILS, StubEngine, an_exit, plan, plant, problem
from tests.waiting import async_eventually

INSTANCE = {
    "name", "phase", "goal", "ready", "pid", "generation", "since_seconds", "uptime_seconds", "stage",
    "stage_signal", "stage_target", "stage_since_seconds", "deadline_seconds", "waiting_for",
    "unready_reason", "restarts", "failures", "status_text", "in_flight", "queue_depth", "last_exit", "surge",
}  # fmt: skip
POOL = {
    "name", "kind", "critical", "goal", "status", "reasons", "wanted", "ready", "instances_declared",
    "depends_on", "sockets", "rollout", "instances",
}  # fmt: skip
HOST = {"name", "version", "revision", "ready", "goal", "reasons", "uptime_seconds", "shutdown", "pools"}
OPERATION = {
    "id", "kind", "target", "state", "done", "total", "started_at", "finished_at", "request_id", "principal",
    "message", "steps",
}  # fmt: skip


async def test_the_shapes_have_their_names() -> None:
    """Host, pool, instance and operation have exactly the agreed fields."""
    async with plant() as one:
        await climbing(one)
        host = (await one.client.get("/v1/status")).json()
        assert set(host) == HOST
        assert {name for pool in host["pools"] for name in pool} == POOL
        assert {name for pool in host["pools"] for inst in pool["instances"] for name in inst} == INSTANCE
        assert [pool["name"] for pool in host["pools"]] == ["emails", "web", "reports"]
        assert host["pools"][1]["depends_on"] == {"emails": "ready"}
        assert set((await one.client.get("/v1/pools/emails")).json()) == POOL | {"revision"}
        assert set((await one.client.get("/v1/pools/emails/instances/0")).json()) == INSTANCE | {"revision"}
        assert set((await one.client.get("/v1/pools")).json()) == {"revision", "pools"}
        assert set((await one.client.post("/v1/pools/web/drain")).json()) == OPERATION


async def test_an_instance_on_the_ladder_shows_where_it_is() -> None:
    """Rung, signal, target, ages, time left, and texts of workers exactly as they said them."""
    async with plant() as one:
        await climbing(one)
        shown = (await one.client.get("/v1/pools/emails/instances/0")).json()
        assert (shown["stage"], shown["stage_signal"], shown["stage_target"]) == ("stage-2", "SIGTERM", "all")
        assert (shown["phase"], shown["goal"], shown["pid"]) == ("stopping", "drained", 4711)
        assert shown["waiting_for"] == '100% of "it"\n%s'
        assert shown["status_text"] == "50 % of é\u2028"
        assert shown["last_exit"]["last_lines"] == ["boom %d", "\x1b[31mred"]
        assert (shown["last_exit"]["class"], shown["last_exit"]["detail"]) == ("failure", "exit 1")
        assert 10.0 <= shown["since_seconds"] < 60.0
        assert 100.0 <= shown["uptime_seconds"] < 150.0
        assert 1.0 <= shown["stage_since_seconds"] < 60.0
        assert 0.0 <= shown["deadline_seconds"] <= 4.0
        assert 3.0 <= shown["last_exit"]["ago_seconds"] < 60.0
        assert shown["last_exit"]["uptime_seconds"] == 2.5


async def test_ages_grow_and_times_left_end_at_zero() -> None:
    """Kept text never shows kept ages: each document is about its own moment."""
    async with plant() as one:
        await climbing(one)
        now = one.engine.now
        one.engine.now = lambda: now() + 1000.0  # type: ignore[method-assign]
        shown = (await one.client.get("/v1/status")).json()["pools"][0]["instances"][0]
        assert shown["since_seconds"] >= 1010.0
        assert shown["deadline_seconds"] == 0.0
        one.engine.now = lambda: now() + 2000.0  # type: ignore[method-assign]
        assert (await one.client.get("/v1/pools")).json()["pools"][0]["instances"][0][
            "since_seconds"
        ] >= 2010.0


@pytest.mark.parametrize(
    "path", ["/v1/status", "/v1/pools", "/v1/pools/emails", "/v1/pools/emails/instances/0"]
)
async def test_a_change_shows_at_once(path: str) -> None:
    """However quickly one read follows the other, the second shows the host as it is then."""
    async with plant() as one:
        assert '"restarts": 41' not in (await one.client.get(path)).text
        for number in range(41, 44):
            await one.engine.put(one.engine.host.instances[EMAILS]._replace(restarts=number))
            assert f'"restarts": {number}' in (await one.client.get(path)).text


async def test_a_large_host_is_one_consistent_snapshot() -> None:
    """Two pools that change together are never seen apart, however many slices the document takes."""
    pools = {f"pool-{number}": PoolPlan(f"pool-{number}", instances=300) for number in range(2)}
    async with plant(HostPlan("large", pools)) as one:
        first, last = one.engine.host.pools["pool-0"], one.engine.host.pools["pool-1"]
        keys = [next(one.engine.host.instances_of(first.name)).id, list(one.engine.host.instances)[-1]]
        stop = asyncio.Event()

        async def churn() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                for key in keys:
                    one.engine.host.instances[key] = one.engine.host.instances[key]._replace(restarts=number)
                one.engine.host.revision += 1
                await asyncio.sleep(0)

        churning = asyncio.create_task(churn())
        for _ in range(10):
            shown = (await one.client.get("/v1/status")).json()["pools"]
            assert len(shown[0]["instances"]) == len(shown[1]["instances"]) == last.plan.instances
            assert shown[0]["instances"][0]["restarts"] == shown[1]["instances"][-1]["restarts"]
        stop.set()
        await churning


async def test_readiness_follows_critical_pools_faults_and_shutdown() -> None:
    """503 with reasons until all critical pools are up; a broken invariant and a shutdown turn it back."""
    async with plant() as one:
        answer = await one.client.get("/readyz")
        assert answer.status_code == 503
        assert "emails/0 is pending" in answer.json()["reasons"]
        await one.engine.all_running()
        assert (await one.client.get("/readyz")).json() == {"ready": True, "reasons": []}
        assert (await one.client.get("/health")).json()["status"] == "healthy"
        one.engine.faults = 1
        answer = await one.client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["reasons"] == ["a step broke an invariant; see the log"]
        one.engine.faults = 0
        await one.client.post("/v1/shutdown", json={"deadline_seconds": 30})
        health = await one.client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "shutting-down")
        status = (await one.client.get("/v1/status")).json()
        assert set(status["shutdown"]) == {"deadline_seconds", "operation"}
        assert 0 < status["shutdown"]["deadline_seconds"] <= 30


async def test_a_pool_that_is_not_critical_shows_only_in_health() -> None:
    """reports/0 fails: ready all the same, and /health says degraded."""
    async with plant() as one:
        await one.engine.all_running()
        reports = list(one.engine.host.instances.values())[-1]
        await one.engine.put(reports._replace(phase=Phase.FAILED, ready=False, last_exit=an_exit(one.engine)))
        assert (await one.client.get("/readyz")).status_code == 200
        health = (await one.client.get("/health")).json()
        assert health["status"] == "degraded"
        assert health["pools"][2]["reasons"] == ["reports/0 is failed after exit 1"]
        assert set(health) == {"status", "ready", "reasons", "pools"}


async def test_livez_says_what_it_is_given() -> None:
    """It is 503 when the root says so."""
    alive = [True]
    async with plant(live=lambda: alive[0]) as one:
        assert (await one.client.get("/livez")).json() == {"status": "ok"}
        alive[0] = False
        assert (await one.client.get("/livez")).status_code == 503


class Past:
    """A history with one operation of an earlier life."""

    ROW: ClassVar[dict[str, object]] = {
        "id": "old", "kind": "drain", "target": "emails", "state": "aborted", "done": 0, "total": 2,
        "started_at": "2020-01-01T00:00:00.000Z", "finished_at": "2020-01-01T00:00:01.000Z",
        "request_id": "r",        "principal": "p", "message": "the daemon was restarted", "steps": [],
    }  # fmt: skip

    async def recent_operations(self, limit: int) -> list[dict[str, object]]:
        """The one."""
        return [self.ROW][:limit]

    async def past_operation(self, operation: str) -> dict[str, object] | None:
        """The one, if it is the one."""
        return self.ROW if operation == "old" else None


async def test_operations_are_listed_newest_first_with_those_of_earlier_lives() -> None:
    """The list has no steps; each can be read with its steps by its id."""
    async with plant(history=Past()) as one:
        first = (await one.client.post("/v1/pools/emails/drain")).json()["id"]
        second = (await one.client.post("/v1/pools/web/drain")).json()["id"]
        listed = (await one.client.get("/v1/operations")).json()["operations"]
        assert {first, second} == {entry["id"] for entry in listed[:2]}
        assert listed[2]["id"] == "old"
        assert listed == sorted(listed, key=lambda entry: entry["started_at"], reverse=True)
        assert all("steps" not in entry for entry in listed)
        assert (await one.client.get("/v1/operations/old")).json() == Past.ROW
        assert problem(await one.client.post("/v1/operations/old/abort"))["kind"] == "operation-ended"
        assert problem(await one.client.get("/v1/operations/other"))["kind"] == "unknown-operation"


async def test_waiting_for_an_operation_ends_with_it() -> None:
    """`?wait=` answers as soon as the operation is over, not before."""
    async with plant() as one:
        await one.engine.all_running()
        operation = (await one.client.post("/v1/pools/web/restart")).json()
        assert operation["state"] == "running"
        polling = asyncio.create_task(one.client.get(f"/v1/operations/{operation['id']}?wait=60"))
        await async_eventually(lambda: one.engine.waiting == 1)
        assert (await one.client.post(f"/v1/operations/{operation['id']}/abort")).status_code == 202
        assert (await polling).json()["state"] == "aborted"


async def test_a_large_operation_has_all_its_steps() -> None:
    """Steps of hundreds of instances come in one document."""
    async with plant(HostPlan("large", {"many": PoolPlan("many", instances=500)})) as one:
        await one.engine.all_running()
        answer = (await one.client.post("/v1/pools/many/drain")).json()
        assert len(answer["steps"]) == answer["total"] == 500
        assert answer["steps"][7]["instance"] == "many/7"


def test_the_wall_clock_gives_one_text_to_one_moment() -> None:
    """Jitter between the clocks does not show; a stepped clock does."""
    wall = [1_700_000_000.25]
    clock = WallClock(lambda: 100.0, lambda: wall[0])
    assert clock.text(99.0) == "2023-11-14T22:13:19.250Z"
    wall[0] += 0.2
    assert clock.text(99.0) == "2023-11-14T22:13:19.250Z"
    wall[0] += 3600.0
    assert clock.text(99.0) == "2023-11-14T23:13:19.450Z"


async def test_documents_are_plain_json() -> None:
    """Whatever the pieces, the whole is one valid document in ASCII."""
    async with plant() as one:
        await climbing(one)
        for path in ("/v1/status", "/v1/pools", "/v1/pools/emails", "/v1/pools/emails/instances/0"):
            raw = (await one.client.get(path)).content
            assert raw.isascii()
            json.loads(raw)


async def test_health_is_worked_out_in_slices_and_behind_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop turns at each pool, and whoever holds the gate for a large document holds up no health."""
    monkeypatch.setattr("supervisor.control.render.SLICE_SECONDS", 0.0)
    pools = {f"p{number}": PoolPlan(f"p{number}") for number in range(300)}
    engine = StubEngine(HostPlan("shop", pools))
    renderer = Renderer(engine, "1", 0.0)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    async with renderer.gate():
        for render, least in ((renderer.health, 600), (renderer.readiness, 300)):
            before = turns
            document = await render()
            assert turns - before >= least
            assert document.status == 503
    counting.cancel()
    assert len(json.loads((await renderer.health()).body)["pools"]) == 300


async def test_a_health_that_changes_while_it_is_worked_out_agrees_with_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its word follows from the pools that it shows; the next request sees what came meanwhile."""
    monkeypatch.setattr("supervisor.control.render.SLICE_SECONDS", 0.0)
    engine = StubEngine(plan())
    await engine.all_running()
    renderer = Renderer(engine, "1", 0.0)
    working = asyncio.create_task(renderer.health())
    await asyncio.sleep(0)
    later = [asyncio.create_task(renderer.health()) for _ in range(3)]
    await asyncio.sleep(0)
    bad = engine.host.instances[EMAILS]._replace(phase=Phase.FAILED, ready=False, last_exit=an_exit(engine))
    await engine.put(bad)
    before = json.loads((await working).body)
    assert before["status"] == ("healthy" if before["pools"][0]["status"] == "healthy" else "unhealthy")
    documents = [await one for one in later]
    assert all(one is documents[0] for one in documents), "who waits for the same shares it"
    after = json.loads(documents[0].body)
    assert (after["status"], after["pools"][0]["ready"]) == ("unhealthy", 1)
    assert (await renderer.readiness()).status == 503
