"""HTTP checks against real listeners, the good ones and the nasty ones."""

import asyncio
import os
import shutil
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.core.events import CheckKind
from supervisor.core.launch import HttpCheck
from supervisor.runtime import http_check
from supervisor.runtime.http_check import shown_url
from tests.runtime.listeners import LONG, Listen, Prober, Story, answering, endless, hang, saying, trickle
from tests.waiting import async_eventually


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


@pytest.mark.parametrize("url", ["http://no-such-host.invalid:1/", "https://127.0.0.1:1/"])
async def test_a_daemon_without_a_thread_fails_nobody(
    prober: Prober, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Names are looked up, and certificates read, in a thread: where there is none, nobody was asked."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_check, "_trusted", [])
        patch.setattr(threading.Thread, "start", start)
        assert await prober.ask(HttpCheck(url), kind=CheckKind.LIVENESS) is None
    assert prober.checks.unasked == 1
    assert "can't start new thread; what was known of it holds" in caplog.text
