"""Waiting for a change: answered at the change, cut to a bound, and no place kept by who has left."""

import asyncio
import select
import socket

import pytest

from supervisor.control.waiting import WaitingRoom
from tests.control.climbing import climbing
from tests.control.plant import plant, problem
from tests.waiting import async_eventually


@pytest.mark.parametrize(
    "path", ["/v1/status", "/v1/pools", "/v1/pools/emails", "/v1/pools/emails/instances/0"]
)
async def test_a_long_poll_answers_at_the_change(path: str) -> None:
    """It waits while nothing changes, and shows the revision that ended the wait."""
    async with plant() as one:
        before = one.engine.host.revision
        polling = asyncio.create_task(one.client.get(f"{path}?after={before}&wait=60"))
        await async_eventually(lambda: one.engine.waiting == 1)
        assert not polling.done()
        await climbing(one)
        answer = await polling
        assert answer.json()["revision"] == before + 1
        assert answer.headers["x-pitboss-revision"] == str(before + 1)


async def test_a_long_poll_ends_with_its_time() -> None:
    """Nothing changes: the answer comes after the wait all the same, with the old revision."""
    async with plant() as one:
        answer = await one.client.get("/v1/status?after=0&wait=0.05")
        assert answer.json()["revision"] == 0
        assert one.engine.waiting == 0


async def test_a_revision_of_another_life_is_answered_at_once() -> None:
    """After a restart of the daemon revisions begin anew; its clients must not wait for the old ones."""
    async with plant() as one:
        assert (await one.client.get("/v1/status?after=500&wait=60")).json()["revision"] == 0


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=1e3", "after=" + "9" * 30,
                                   "after=0&wait=nan",
                                   "after=0&wait=-1", "after=0&wait=soon", "wait=" + "9" * 40])  # fmt: skip
async def test_a_wrong_query_is_a_bad_request(query: str) -> None:
    """Numbers only, from 0."""
    async with plant() as one:
        assert problem(await one.client.get(f"/v1/status?{query}"))["kind"] == "bad-request"


async def test_an_endless_wait_is_cut_to_a_minute() -> None:
    """`wait=inf` is taken as the most that may be waited; a change still ends it."""
    async with plant() as one:
        polling = asyncio.create_task(one.client.get("/v1/status?after=0&wait=inf"))
        await async_eventually(lambda: one.engine.waiting == 1)
        await climbing(one)
        assert (await polling).json()["revision"] == 1


async def test_a_client_that_leaves_frees_its_place() -> None:
    """The wait of a connection that is closed, also half, ends at once."""
    async with plant() as one:
        for _ in range(3):
            reader, writer = await one.connect()
            writer.write(b"GET /v1/status?after=0&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
            await async_eventually(lambda: one.engine.waiting == 1)
            writer.close()
            await async_eventually(lambda: one.engine.waiting == 0)
            del reader
        raw = asyncio.create_task(one.raw(b"GET /v1/status?after=0&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n"))
        assert (await raw).startswith(b"HTTP/1.1 200 ")


async def test_a_connection_that_breaks_frees_its_place() -> None:
    """A client that dies with an answer unread resets the connection: there is no end of file to see."""
    async with plant() as one:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(one.path))
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            await async_eventually(lambda: select.select([client], [], [], 0)[0])
            client.sendall(b"GET /v1/status?after=0&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
            await async_eventually(lambda: one.engine.waiting == 1)
        await async_eventually(lambda: one.engine.waiting == 0)


async def test_places_for_waiting_are_few() -> None:
    """Who finds no place is answered at once; so is everybody when the server closes."""
    async with plant() as one:
        room = WaitingRoom(one.engine, places=2)
        ended = asyncio.Event()
        waiting = [asyncio.create_task(room.until(lambda: False, 60.0, ended)) for _ in range(2)]
        await async_eventually(lambda: one.engine.waiting == 2)
        await asyncio.wait_for(room.until(lambda: False, 60.0, ended), 30.0)
        room.close()
        await asyncio.wait_for(asyncio.gather(*waiting), 30.0)
        assert one.engine.waiting == 0


async def test_stopping_the_server_answers_who_waits() -> None:
    """A long poll under way gets its document before the connection is closed."""
    async with plant() as one:
        polling = asyncio.create_task(one.client.get("/v1/status?after=0&wait=60"))
        await async_eventually(lambda: one.engine.waiting == 1)
        await one.server.stop()
        assert (await polling).status_code == 200
