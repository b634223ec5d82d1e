"""TCP checks, lookups, and the order of requests and answers of every kind of check."""

import asyncio
import socket

import pytest

from supervisor.core.effects import Check, Forget
from supervisor.core.events import CheckFailed, CheckKind, Event
from supervisor.core.launch import CheckTarget, HttpCheck, Launch, TcpCheck
from tests.runtime.listeners import API, LONG, Listen, Prober, answering, hang, saying
from tests.waiting import async_eventually


async def test_a_tcp_check_is_a_connection(prober: Prober, listen: Listen) -> None:
    """Accepted is enough; a closed port says so; `localhost` needs no name service."""
    server = await listen(hang)
    assert await prober.ask(TcpCheck("127.0.0.1", server.port)) is None
    assert await prober.ask(TcpCheck("localhost", server.port)) is None
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        refused = await prober.ask(TcpCheck("127.0.0.1", port))
        assert refused == f"cannot connect to 127.0.0.1:{port}: connection refused"
        refused = await prober.ask(TcpCheck("localhost", port))
        assert refused == f"cannot connect to localhost:{port}: connection refused"


async def test_a_full_backlog_is_no_answer(prober: Prober) -> None:
    """A listener that accepts nobody lets the deadline pass."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(4)]
        for one in fillers:
            one.connect_ex(address)
        reason = await prober.ask(TcpCheck(*address), 0.2)
        assert reason == f"127.0.0.1:{address[1]} gave no answer within 0.2 s"
        for one in fillers:
            one.close()


async def test_a_connection_to_itself_is_no_listener(
    prober: Prober, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may choose the very port that is asked for as the source: nobody listens there."""
    server = await listen(hang)
    real = asyncio.StreamWriter.get_extra_info
    monkeypatch.setattr(
        asyncio.StreamWriter,
        "get_extra_info",
        lambda self, name, default=None: real(self, "peername" if name == "sockname" else name, default),
    )
    reason = await prober.ask(TcpCheck("127.0.0.1", server.port))
    assert reason == f"cannot connect to 127.0.0.1:{server.port}: connection refused"


async def test_a_kind_without_a_target_fails(prober: Prober) -> None:
    """A check that the manifest does not know is answered, not lost."""
    prober.checks.check(Check(API, 1, CheckKind.LIVENESS, 1.0))
    await async_eventually(lambda: prober.events)
    assert prober.events == [
        CheckFailed(API, 1, CheckKind.LIVENESS, "cannot check api/0: it has no liveness check")
    ]


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("broken")])
async def test_a_lookup_that_fails_is_answered(prober: Prober, error: Exception) -> None:
    """Whatever goes wrong inside, the core gets its one answer."""

    def launch(*_: object) -> Launch:
        raise error

    prober.checks._launch = launch
    prober.checks.check(Check(API, 1, CheckKind.READINESS, 1.0))
    await async_eventually(lambda: prober.events)
    (event,) = prober.events
    assert isinstance(event, CheckFailed)
    assert event.reason.startswith("cannot ")


async def test_a_second_request_is_answered_by_the_first(prober: Prober, listen: Listen) -> None:
    """Never two of the same; other kinds and generations are asked beside it."""
    server = await listen(hang)
    for kind in (CheckKind.READINESS, CheckKind.LIVENESS):
        prober.targets[kind] = HttpCheck(server.url)
    for _ in range(3):
        prober.checks.check(Check(API, 1, CheckKind.READINESS, 0.3))
    prober.checks.check(Check(API, 1, CheckKind.LIVENESS, 0.3))
    prober.checks.check(Check(API, 2, CheckKind.READINESS, 0.3))
    await async_eventually(lambda: len(prober.events) >= 3)
    assert len(server.asked) == 3
    answers = {(one.generation, one.check) for one in prober.events if isinstance(one, CheckFailed)}
    assert answers == {(1, CheckKind.READINESS), (1, CheckKind.LIVENESS), (2, CheckKind.READINESS)}


async def test_an_answer_may_lead_to_the_next_request(prober: Prober, listen: Listen) -> None:
    """The core asks again from within the answer, and that is a new check."""
    server = await listen(answering(b"200 OK"))
    prober.targets[CheckKind.READINESS] = HttpCheck(server.url)
    again = Check(API, 1, CheckKind.READINESS, LONG)

    def post(event: Event) -> None:
        prober.events.append(event)
        if len(prober.events) < 5:
            prober.checks.check(again)

    prober.checks._post = post
    prober.checks.check(again)
    await async_eventually(lambda: len(prober.events) == 5)
    assert len(server.asked) == 5


async def test_a_forgotten_generation_gets_no_answer(prober: Prober, listen: Listen) -> None:
    """Its checks end at once and silently; those of other generations go on."""
    server = await listen(hang)
    prober.targets[CheckKind.READINESS] = HttpCheck(server.url)
    for generation in (1, 2):
        prober.checks.check(Check(API, generation, CheckKind.READINESS, LONG))
    await async_eventually(lambda: server.open == 2)
    prober.checks.forget(Forget(API, 1))
    await async_eventually(lambda: server.open == 1)
    prober.checks.check(Check(API, 1, CheckKind.READINESS, LONG))
    prober.checks.forget(Forget(API, 1))
    await prober.checks.close()
    await async_eventually(lambda: server.open == 0)
    prober.checks.check(Check(API, 2, CheckKind.READINESS, LONG))
    assert prober.events == []


async def test_hundreds_of_checks_leave_nothing(prober: Prober, listen: Listen) -> None:
    """Good, bad and refused ones in turn: the fixture finds no descriptor and no task."""
    good, bad = await listen(answering(b"200 OK")), await listen(saying(b"garbage\r\n"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        targets: list[CheckTarget] = [
            HttpCheck(good.url),
            HttpCheck(bad.url),
            TcpCheck(*unused.getsockname()),
        ]
        for index in range(300):
            assert (await prober.ask(targets[index % 3]) is None) is (index % 3 == 0)
