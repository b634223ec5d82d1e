"""Clients that send too much, too slowly, or no HTTP at all; and clients that do not read."""

import asyncio
import contextlib
import random

import pytest

from supervisor.control.protocol import Limits
from supervisor.core.plan import HostPlan, PoolPlan
from tests.control.plant import Plant, plant, statuses
from tests.waiting import async_eventually

QUICK = Limits(arrival_seconds=0.3, idle_seconds=1.0, stall_seconds=0.3)

MALFORMED = [
    b"\r\n\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /livez\r\n\r\n",
    b"GET /livez HTTP/9.9\r\n\r\n",
    b"GET /livez HTTP/1.1\nHost: x\n\n",
    b"GET  /livez HTTP/1.1\r\n\r\n",
    b"GET /li\x00vez HTTP/1.1\r\n\r\n",
    b"GET /li\xffvez HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //// HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
    b"GET /livez HTTP/1.1\r\nHost x\r\n\r\n",
    b"GET /livez HTTP/1.1\r\n: x\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",
    b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
    b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00",
    b"GET /livez HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
]


async def still_serves(one: Plant) -> None:
    """The next client is served, and no connection of the ones before is left."""
    assert (await one.client.get("/livez")).status_code == 200
    await async_eventually(lambda: connections(one) <= 1)


def connections(one: Plant) -> int:
    """How many connections the server has."""
    return sum(len(listener.state.connections) for listener in one.server._listeners)


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: repr(data)[:50])
async def test_what_is_not_http_gets_a_4xx_or_nothing(data: bytes, tcp: bool) -> None:
    """Never a 5xx, never a hang, never a wish; the connection is closed and the next client is served."""
    async with plant(limits=QUICK) as one:
        for close in (False, True):
            answer = await one.raw(data, tcp=tcp, close=close)
            assert all(status < 500 for status in statuses(answer)), answer
        assert one.engine.wishes == []
        await still_serves(one)


@pytest.mark.parametrize("seed", range(6))
async def test_mutated_requests_never_get_a_5xx_and_never_hang(seed: int) -> None:
    """Valid requests with bytes flipped, cut, doubled and inserted."""
    dice = random.Random(seed)
    valid = [
        b"GET /v1/status?after=0&wait=0 HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: a\r\n\r\n",
        (
            b"POST /v1/pools/emails/signal HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Content-Length: 20\r\n\r\n{"signal":"SIGUSR1"}'
        ),
        (
            b"POST /v1/stop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Transfer-Encoding: chunked\r\n\r\n11\r\n{"urgency":"now"}\r\n0\r\nTrailer: x\r\n\r\n'
        ),
    ]
    async with plant(limits=QUICK) as one:
        for _ in range(60):
            data = bytearray(dice.choice(valid) * dice.choice([1, 1, 2]))
            for _ in range(dice.randint(1, 6)):
                place = dice.randrange(len(data))
                match dice.randrange(4):
                    case 0:
                        data[place] = dice.randrange(256)
                    case 1:
                        del data[place : place + dice.randint(1, 20)]
                    case 2:
                        data[place:place] = dice.randbytes(dice.randint(1, 8))
                    case _:
                        data[place:place] = b"\r\n"
                data = data or bytearray(b"x")
            answer = await one.raw(bytes(data))
            # The one 5xx that is an answer: a host that is not ready says so.
            assert all(status < 500 for status in statuses(answer)), (bytes(data), answer)
        await still_serves(one)


async def test_a_large_head_is_refused() -> None:
    """More than 16 KiB of request line or headers: 431, also when one header never ends; less is served."""
    async with plant() as one:
        fine = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\nA: " + b"a" * 15_000 + b"\r\n\r\n"
        assert statuses(await one.raw(fine)) == [200]
        for data in (
            b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 17_000 + b"\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 5_000 + b"\r\n",
            b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 1_000_000,
        ):
            assert statuses(await one.raw(data, close=False)) in ([431], []), data[:40]
        assert statuses(await one.raw(b"GET /livez HTTP/1.1\r\nA: " + b"a" * 21_000, close=False)) == [431]
        await still_serves(one)


async def test_a_large_body_is_refused() -> None:
    """More than 64 KiB: 413 before it is read if it says so, and as soon as it is too much if not."""
    async with plant() as one:
        head = b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        announced = head + b"Content-Length: 65537\r\n\r\n"
        assert statuses(await one.raw(announced, close=False)) == [413]
        chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17
        assert statuses(await one.raw(chunked, close=False)) in ([413], [])
        framing = b"1;" + b"x" * 4000 + b"\r\n \r\n"
        assert statuses(
            await one.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + framing * 60, close=False)
        ) in ([413], [])
        fits = head + b"Content-Length: 65536\r\nConnection: close\r\n\r\n" + b" " * 65_535 + b"0"
        assert statuses(await one.raw(fits)) == [422]
        assert one.engine.wishes == []
        await still_serves(one)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"GET /livez HT", [408]),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: ", [408]),
        (b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{", [408]),
        # The answer to the unknown path was given before the body; no second one may follow.
        (b"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{", [404]),
    ],
    ids=["silent", "line", "headers", "body", "body of an answered request"],
)
async def test_a_request_that_does_not_arrive_is_given_up(data: bytes, expected: list[int]) -> None:
    """408 for a part of a request, nothing for none, and the connection is closed."""
    async with plant(limits=QUICK) as one:
        assert statuses(await one.raw(data, close=False)) == expected
        assert one.engine.wishes == []
        await still_serves(one)


async def test_a_trickle_does_not_prolong_its_time() -> None:
    """A byte now and then is not progress: the time is for the whole request."""
    async with plant(limits=Limits(arrival_seconds=0.5)) as one:
        reader, writer = await one.connect()
        answer = asyncio.create_task(reader.read())

        def trickle() -> bool:
            with contextlib.suppress(OSError):
                writer.write(b"A")
            return answer.done()

        writer.write(b"GET /livez HTTP/1.1\r\n")
        await async_eventually(trickle)
        writer.close()
        with contextlib.suppress(ConnectionError):
            assert statuses(await answer) == [408]
        await still_serves(one)


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    """After its answer and the idle time; a second request before that is served on it."""
    async with plant(limits=QUICK) as one:
        reader, writer = await one.connect()
        for _ in range(2):
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b'{"status": "ok"}')
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


async def test_whoever_waits_longest_makes_way(caplog: pytest.LogCaptureFixture) -> None:
    """With all places taken by silent clients a newcomer is served, and takes the place of the oldest."""
    limits = Limits(connections=20)
    async with plant(limits=limits) as one:
        kept = [await one.connect(tcp=True) for _ in range(20)]
        await async_eventually(lambda: connections(one) == 20)
        for index in range(5):
            async with one.tcp() as client:
                assert (await client.get("/livez")).status_code == 200
                assert connections(one) <= 20
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.wait_for(kept[index][0].read(), 60) == b""
            # The place of the one that has been served is free again, and is taken.
            kept.append(await one.connect(tcp=True))
            await async_eventually(lambda: connections(one) == 20)
        assert (await one.client.get("/v1/status")).status_code == 200
        reader, writer = kept[5]
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        for _, one_writer in kept:
            one_writer.close()
        await async_eventually(lambda: connections(one) <= 1)
        async with one.tcp() as client:
            assert (await client.get("/livez")).status_code == 200
    assert caplog.text.count("all 20 places on ") == 1


async def test_who_is_being_answered_keeps_the_place(caplog: pytest.LogCaptureFixture) -> None:
    """Clients that wait for a change are not sent away: with all places taken by them, others are."""
    async with plant(limits=Limits(connections=3)) as one:
        path = f"/v1/status?wait=30&after={one.engine.host.revision}"
        kept = [await one.connect() for _ in range(3)]
        for _, writer in kept:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await async_eventually(lambda: one.engine.waiting == 3)
        reader, writer = await one.connect()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
        await one.engine.all_running()
        for reader, writer in kept:
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
            writer.close()
    assert "0 of them by clients that are slow" in caplog.text


async def test_a_client_that_does_not_read_is_aborted() -> None:
    """A large answer that nobody takes is dropped with its connection; others are served meanwhile."""
    pools = {"many": PoolPlan("many", instances=2000)}
    async with plant(HostPlan("large", pools), limits=QUICK) as one:
        reader, writer = await one.connect()
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        await async_eventually(lambda: connections(one) == 1)
        assert (await one.client.get("/livez")).status_code == 200
        await async_eventually(lambda: connections(one) == 0)
        writer.close()


async def test_a_second_request_before_the_first_answer_is_not_served() -> None:
    """No pipelining: the first is answered, then the connection is closed."""
    wish = b"POST /v1/drain HTTP/1.1\r\nHost: x\r\n\r\n"
    async with plant() as one:
        # `raw` returns when the server has closed.
        answer = await one.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + wish, close=False)
        assert statuses(answer) == [200]
        assert one.engine.wishes == []


async def test_garbage_after_a_request_does_not_spoil_its_answer() -> None:
    """What follows a whole request ends the connection, after the answer."""
    async with plant() as one:
        answer = await one.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n\x00\x01garbage", close=False)
        assert statuses(answer) == [200]


async def test_trailers_are_no_headers() -> None:
    """A trailer cannot add a header behind the checks."""
    async with plant() as one:
        raw = await one.raw(
            b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n"
            b"Idempotency-Key: " + b"x" * 200 + b"\r\n\r\n"
        )
        assert statuses(raw) == [202]


async def test_an_offer_to_upgrade_is_answered_in_http_1() -> None:
    """A client like curl --http2 offers h2c; the answer is plain, and the connection ends."""
    async with plant() as one:
        raw = await one.raw(
            b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
            close=False,
        )
        assert statuses(raw) == [200]


async def test_a_half_closed_client_gets_its_answer() -> None:
    """`printf … | socat` closes its side at once; it is answered all the same."""
    async with plant() as one:
        raw = await one.raw(b"GET /v1/status HTTP/1.0\r\n\r\n", close=True)
        assert statuses(raw) == [200]


async def test_a_100_continue_is_given() -> None:
    """Clients like curl wait for it before a larger body."""
    async with plant() as one:
        reader, writer = await one.connect()
        writer.write(
            b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"{}")
        assert statuses(await reader.read()) == [202]
        writer.close()
