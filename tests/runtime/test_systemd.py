"""What the daemon says to the systemd above it, read from a real socket."""

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

import pytest

from supervisor.core.effects import Act
from supervisor.core.events import Booted, Scope, ShutdownRequested, Spawned, StopRequested, Wish
from supervisor.core.identity import InstanceId
from supervisor.core.plan import HostPlan, PoolPlan
from supervisor.core.state import create
from supervisor.runtime import systemd as systemd_module
from supervisor.runtime.engine import Engine
from supervisor.runtime.systemd import Systemd, _watchdog_seconds
from tests.waiting import async_eventually

A = InstanceId("a", 0)


def _nothing(_act: Act) -> None:
    """Perform nothing."""


class Above:
    """The socket of a systemd, and an engine whose acts do nothing; `said` is every message so far."""

    def __init__(self, *, watchdog_seconds: float | None = None, deadline: float = 100.0) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="pb-", dir="/tmp")
        self.path = f"{self.directory.name}/notify"
        self.said: list[dict[str, str]] = []
        self.endpoint = self.listen()
        plan = HostPlan("h", {"a": PoolPlan("a")}, shutdown_deadline_seconds=deadline)
        self.host = create(plan, now=asyncio.get_running_loop().time())
        self.engine = Engine(self.host, dict.fromkeys(get_args(Act), _nothing), [self._observe])
        self.systemd = Systemd(
            self.path,
            watchdog_seconds,
            describe=lambda host, _: f"revision {host.revision}",
            pulse=self.pulse,
        )
        self.is_stuck = False

    def listen(self) -> socket.socket:
        """A new socket at the path."""
        Path(self.path).unlink(missing_ok=True)
        endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        endpoint.bind(self.path)
        return endpoint

    def _observe(self, *report: object) -> None:
        self.systemd.observe(*report)  # type: ignore[arg-type]

    async def pulse(self) -> None:
        """As the daemon wires it, unless the test holds the engine up."""
        if self.is_stuck:
            await asyncio.get_running_loop().create_future()
        await self.engine.pulse()

    def hear(self) -> list[dict[str, str]]:
        """Read what has come; everything so far."""
        while True:
            try:
                message = self.endpoint.recv(65536).decode()
            except BlockingIOError:
                return self.said
            self.said.append(dict(line.split("=", 1) for line in message.split("\n")))

    def heard(self, name: str) -> list[str]:
        """Every value of one assignment, in order."""
        return [message[name] for message in self.hear() if name in message]

    async def close(self) -> None:
        """End it all."""
        await self.systemd.close()
        self.engine.close()
        self.endpoint.close()
        self.directory.cleanup()


@pytest.fixture
async def above() -> AsyncIterator[Above]:
    """One with a quick watchdog."""
    one = Above(watchdog_seconds=0.1)
    yield one
    await one.close()


async def test_ready_comes_once_with_the_status(above: Above) -> None:
    """READY=1 is said when told to, with a status; until then nothing is."""
    above.engine.post(Booted())
    assert above.heard("READY") == []
    above.systemd.ready(above.host)
    assert above.hear()[0] == {"READY": "1", "STATUS": f"revision {above.host.revision}"}


async def test_the_watchdog_is_fed_while_the_engine_takes_events(above: Above) -> None:
    """WATCHDOG=1 comes again and again, and a pulse is no visible change."""
    above.systemd.ready(above.host)
    revision = above.host.revision
    await async_eventually(lambda: len(above.heard("WATCHDOG")) >= 3)
    assert above.host.revision == revision


async def test_an_engine_that_takes_nothing_is_not_called_alive(above: Above) -> None:
    """The loop turns, but no step is taken: not a word, until one is."""
    above.systemd.ready(above.host)
    await async_eventually(lambda: above.heard("WATCHDOG"))
    above.engine._working = True
    await async_eventually(lambda: above.engine._inbox)
    before = len(above.heard("WATCHDOG"))
    turns = 0

    def turned() -> bool:
        nonlocal turns
        turns += 1
        return turns > 50

    await async_eventually(turned)
    assert len(above.heard("WATCHDOG")) == before
    above.engine._working = False
    above.engine._work()
    await async_eventually(lambda: len(above.heard("WATCHDOG")) > before + 1)


async def test_a_pulse_that_raises_is_not_called_alive(
    above: Above, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A core in which even an empty step breaks says nothing, the log says why, and it is tried again."""
    calls = 0

    async def broken() -> None:
        nonlocal calls
        calls += 1
        raise AssertionError("the host does not settle")

    monkeypatch.setattr(above.systemd, "_pulse", broken)
    above.systemd.ready(above.host)
    await async_eventually(lambda: calls >= 2)
    assert above.heard("WATCHDOG") == []
    assert "is not told that the daemon is alive" in caplog.text


async def test_the_status_follows_but_never_floods(above: Above, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred changes are a line for each pause that passes, and the last word is the latest state."""
    monkeypatch.setattr(systemd_module, "STATUS_PAUSE_SECONDS", 0.2)
    began = asyncio.get_running_loop().time()
    above.systemd.ready(above.host)
    above.engine.post(Booted())
    await async_eventually(lambda: above.host.instances[A].generation == 1)
    for pid in range(100, 200):
        above.engine.post(Spawned(A, 1, pid))
    latest = f"revision {above.host.revision}"
    await async_eventually(lambda: latest in above.heard("STATUS"))
    passed = asyncio.get_running_loop().time() - began
    assert len(above.heard("STATUS")) <= 2 + passed / 0.2


async def test_the_end_is_announced_and_time_asked_for_within_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """STOPPING=1 comes at once with a grant, which is renewed, shrinks to the deadline and then ceases."""
    monkeypatch.setattr(systemd_module, "EXTEND_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(systemd_module, "CLOSING_SECONDS", 0.0)
    monkeypatch.setattr(systemd_module, "EXTENSION_SECONDS", 0.5)
    above = Above(deadline=1.0)
    try:
        above.engine.post(Booted())
        await async_eventually(lambda: above.host.instances[A].generation == 1)
        above.engine.post(Spawned(A, 1, 100))
        above.systemd.ready(above.host)
        assert above.heard("EXTEND_TIMEOUT_USEC") == []
        await above.engine.ask(ShutdownRequested(Wish(Scope(), "op-1")))
        first = next(message for message in above.hear() if "STOPPING" in message)
        assert first["STOPPING"] == "1" and first["EXTEND_TIMEOUT_USEC"] == "500000"
        await async_eventually(lambda: len(above.heard("EXTEND_TIMEOUT_USEC")) > 2)
        assert above.host.shutdown is not None
        last = above.host.shutdown.deadline
        # Reads meanwhile: what finds the queue of a socket full comes later.
        await async_eventually(lambda: above.hear() and asyncio.get_running_loop().time() > last + 0.2)
        grants = [int(one) / 1e6 for one in above.heard("EXTEND_TIMEOUT_USEC")]
        assert max(grants) <= 0.5 and grants[-1] < 0.5
        count = len(grants)
        await above.engine.ask(StopRequested(Wish(Scope("a"), "op-2")))
        assert len(above.heard("EXTEND_TIMEOUT_USEC")) == count
        assert above.heard("STOPPING") == ["1"]
        assert above.heard("WATCHDOG") == []
    finally:
        await above.close()


async def test_no_time_is_asked_for_by_an_engine_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the host goes only the proof of life renews the grant."""
    monkeypatch.setattr(systemd_module, "EXTEND_EVERY_SECONDS", 0.05)
    above = Above()
    try:
        above.engine.post(Booted())
        await async_eventually(lambda: above.host.instances[A].generation == 1)
        above.engine.post(Spawned(A, 1, 100))
        above.systemd.ready(above.host)
        above.is_stuck = True
        await above.engine.ask(ShutdownRequested(Wish(Scope(), "op-1")))
        await async_eventually(lambda: above.systemd._beat is not None)
        assert len(above.heard("EXTEND_TIMEOUT_USEC")) == 1
    finally:
        await above.close()


async def test_a_full_socket_delays_and_loses_nothing_that_counts(above: Above) -> None:
    """Nobody reads for a while: nothing waits for them, and the latest of everything arrives afterwards."""
    line = above.systemd._line
    assert line is not None
    for number in range(2000):
        line.tell({"STATUS": str(number)})
    line.tell({"READY": "1"})
    await async_eventually(lambda: above.heard("READY"))
    assert above.heard("STATUS")[-1] == "1999"
    assert len(above.said) < 2000


async def test_a_socket_made_anew_is_found_again(above: Above, caplog: pytest.LogCaptureFixture) -> None:
    """A socket bound again is found; while there is none that is said once in the log."""
    above.systemd.ready(above.host)
    above.endpoint.close()
    line = above.systemd._line
    assert line is not None
    line.tell({"STATUS": "into the void"})
    line.tell({"STATUS": "and again"})
    assert caplog.text.count("cannot notify systemd") == 1
    above.endpoint = above.listen()
    line.tell({"WATCHDOG": "1"})
    assert above.hear()[-1] == {"STATUS": "and again", "WATCHDOG": "1"}


async def test_an_abstract_address_is_spoken_to() -> None:
    """A leading @ stands for the NUL byte."""
    name = f"pitboss-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as endpoint:
        endpoint.bind("\0" + name)
        systemd = Systemd(f"@{name}", None, describe=lambda _host, _now: "fine", pulse=_never)
        systemd.ready(create(HostPlan("h", {"a": PoolPlan("a")})))
        assert endpoint.recv(4096) == b"READY=1\nSTATUS=fine"
        await systemd.close()


async def _never() -> None:
    raise AssertionError("nobody asked for a watchdog")


async def test_without_systemd_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, no socket, no timer; and an address of another kind is left alone."""
    for address in ("", "vsock:2:1234", "@"):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        systemd = Systemd.above(describe=lambda _host, _now: "fine", pulse=_never)
        host = create(HostPlan("h", {"a": PoolPlan("a")}))
        systemd.ready(host)
        systemd.observe([], host, 0.0)
        assert systemd._line is None and systemd._status_timer is None and systemd._beat_timer is None
        await systemd.close()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_interval_is_taken_only_if_it_is_meant_for_us(
    environ: dict[str, str], seconds: float | None
) -> None:
    """WATCHDOG_PID of somebody else means that the watchdog is not ours; sd_watchdog_enabled(3)."""
    assert _watchdog_seconds(environ) == seconds
