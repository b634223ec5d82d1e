"""HTTP and TCP checks against real listeners, the good ones and the nasty ones."""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor.core.effects import Check, Forget
from supervisor.core.events import CheckFailed, CheckKind, CheckPassed, Event
from supervisor.core.identity import InstanceId
from supervisor.core.launch import CheckTarget, HttpCheck, Launch, LogPolicy, TcpCheck
from supervisor.runtime import http_check
from supervisor.runtime.checks import Checks
from supervisor.runtime.http_check import shown_url
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


def open_descriptors() -> set[int]:
    """The descriptors of this process."""
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    """A prober that leaves neither tasks nor descriptors behind."""
    before = open_descriptors()
    made = Prober()
    yield made
    await made.checks.close()
    await async_eventually(lambda: open_descriptors() == before)
    await async_eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})


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


@pytest.fixture
async def listen(prober: Prober) -> AsyncIterator[Listen]:
    """Start listeners that are closed again."""
    made: list[Listener] = []

    async def start(story: Story, **options: object) -> Listener:
        made.append(await Listener(story).start(**options))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for one in made:
        await one.close()


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


@pytest.mark.parametrize(
    ("status", "passes"),
    [(200, True), (204, True), (302, True), (399, True), (400, False), (401, False), (503, False)],
)
async def test_the_status_decides(prober: Prober, listen: Listen, status: int, passes: bool) -> None:
    """200 to 399 passes; a redirect is an answer and is not followed."""
    server = await listen(answering(f"{status} So".encode(), b"Location: http://127.0.0.1:1/"))
    reason = await prober.ask(HttpCheck(server.url))
    assert reason == (None if passes else f"{server.url} answered {status}")
    assert len(server.asked) == 1


async def test_what_is_asked_is_one_plain_request(prober: Prober, listen: Listen) -> None:
    """Method, path, query and headers are those of the target; the connection is not kept."""
    server = await listen(answering(b"200 OK"))
    check = HttpCheck(
        f"http://127.0.0.1:{server.port}/a%20b?c=d#e",
        "POST",
        {"Host": "shop", "X-Key": "v", "Connection": "x"},
    )
    assert await prober.ask(check, kind=CheckKind.DRAIN) is None
    lines = server.asked[0].decode().split("\r\n")
    assert lines[0] == "POST /a%20b?c=d HTTP/1.1"
    assert {"Host: shop", "X-Key: v", "Connection: close", "Content-Length: 0"} <= set(lines)
    assert sum(line.lower().startswith(("host:", "connection:")) for line in lines) == 2


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut short", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense", True),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n\x00\x01", False),
    ],
)
async def test_unusual_answers_are_understood(
    prober: Prober, listen: Listen, answer: bytes, passes: bool
) -> None:
    """Interim answers are passed over, an upgrade is no success, and the body proves nothing."""
    server = await listen(saying(answer))
    reason = await prober.ask(HttpCheck(server.url))
    assert (reason is None) is passes


@pytest.mark.parametrize(
    ("story", "reason"),
    [
        (saying(b"SSH-2.0-OpenSSH_9.2\r\n"), "does not speak HTTP"),
        (saying(os.urandom(64).replace(b"H", b"h")), "does not speak HTTP"),
        (saying(), "closed the connection before it answered"),
        (saying(b"HTTP/1.1 200"), "closed the connection before it answered"),
        (
            endless(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"b" * 1000 + b"\r\n"),
            "more than 65536 bytes of headers",
        ),
        (endless(b"HTTP/1.1 200 OK\r\nX-A: ", b"b" * 1000), "more than 65536 bytes of headers"),
        (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "more than 65536 bytes of headers"),
    ],
)
async def test_no_answer_is_a_failure_that_says_why(
    prober: Prober, listen: Listen, story: Story, reason: str
) -> None:
    """Garbage, early ends and heads without an end fail at once, without waiting for the deadline."""
    server = await listen(story)
    told = await prober.ask(HttpCheck(server.url))
    assert told is not None
    assert told.startswith(server.url)
    assert reason in told


@pytest.mark.parametrize("story", [hang, trickle])
async def test_a_slow_answer_is_none(prober: Prober, listen: Listen, story: Story) -> None:
    """Silence and a trickle both end at the deadline, and the connection with them."""
    server = await listen(story)
    assert await prober.ask(HttpCheck(server.url), 0.2) == f"{server.url} gave no answer within 0.2 s"
    await async_eventually(lambda: server.asked and not server.open)


async def test_a_huge_or_endless_body_is_not_read(
    prober: Prober, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status has decided; of the rest no more than 64 KiB are taken, however patient one is."""
    monkeypatch.setattr(http_check, "BODY_SECONDS", 10 * LONG)
    server = await listen(endless(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 65536))
    assert await prober.ask(HttpCheck(server.url), 10 * LONG) is None
    await async_eventually(lambda: not server.open)


@pytest.mark.parametrize("patience", [http_check.BODY_SECONDS, LONG])
async def test_a_body_that_never_comes_does_not_turn_a_verdict(
    prober: Prober, listen: Listen, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """Waiting politely for a body ends before the deadline does."""
    monkeypatch.setattr(http_check, "BODY_SECONDS", patience)

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        await reader.read()

    server = await listen(story)
    assert await prober.ask(HttpCheck(server.url), 4.0) is None


async def test_a_unix_socket_replaces_the_address(prober: Prober, listen: Listen) -> None:
    """The URL still names the host that is asked for."""
    directory = tempfile.mkdtemp(dir="/tmp")
    server = await listen(answering(b"200 OK"), where=Path(directory, "s"))
    assert await prober.ask(HttpCheck("http://web/x", unix_socket=f"{directory}/s")) is None
    assert b"Host: web\r\n" in server.asked[0]
    gone = await prober.ask(HttpCheck("http://web/x", unix_socket=f"{directory}/t"))
    assert gone == f"cannot connect to {directory}/t: no such file or directory"
    shutil.rmtree(directory)


@pytest.fixture
def certificate(tmp_path: Path) -> Iterator[Path]:
    """A certificate for 127.0.0.1 that nobody vouches for, with its key."""
    path = tmp_path / "pair.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"),
            *(
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
                tmp_path / "key",
                "-out",
                tmp_path / "cert",
            ),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes((tmp_path / "key").read_bytes() + (tmp_path / "cert").read_bytes())
    yield path
    http_check._trusted.clear()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
async def test_https_is_verified(
    prober: Prober, listen: Listen, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default context decides: an unknown authority is refused, a known one is accepted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await listen(answering(b"200 OK"), tls=context)
    url = server.url.replace("http:", "https:")
    http_check._trusted.clear()
    refused = await prober.ask(HttpCheck(url))
    assert refused is not None
    assert refused.startswith(f"cannot connect to 127.0.0.1:{server.port}: certificate not accepted: ")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    http_check._trusted.clear()
    assert await prober.ask(HttpCheck(url)) is None
    plain = await listen(saying(b"not TLS at all"))
    wrong = await prober.ask(HttpCheck(plain.url.replace("http:", "https:")), 0.3)
    assert wrong is not None


@pytest.mark.parametrize(
    "check",
    [
        HttpCheck("ftp://127.0.0.1/x"),
        HttpCheck("http:///x"),
        HttpCheck("http://127.0.0.1:99999/"),
        HttpCheck("http://[::1/"),
        HttpCheck("http://user:geheim@127.0.0.1/"),
        HttpCheck("http://127.0.0.1/a b"),
        HttpCheck("http://127.0.0.1/x", "GET /other"),
        HttpCheck("http://127.0.0.1/x", headers={"X-A": "geheim\r\nX-B: c"}),
        HttpCheck("http://127.0.0.1/x", headers={"X A": "geheim"}),
        HttpCheck("http://127.0.0.1/x", headers={"X-A": "geheim\u2713"}),
        HttpCheck("http://" + "a" * 300 + ".example:1/"),
    ],
)
async def test_an_impossible_request_is_not_sent(prober: Prober, check: HttpCheck) -> None:
    """Nothing can be smuggled into the request, and the reason gives no secret away."""
    reason = await prober.ask(check)
    assert reason is not None
    assert reason.startswith("cannot ")
    assert "geheim" not in reason


def test_a_url_is_shown_without_secrets() -> None:
    """User, password and query stay out of logs."""
    assert shown_url("http://u:p@[::1]:8/a?token=x#y") == "http://[::1]:8/a"
    assert shown_url("http://[") == "the URL"


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
