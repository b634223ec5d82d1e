"""Wild bytes on the control socket: refused one by one, and nobody is hurt."""

import random
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

from tests.e2e.commands import pool, worker
from tests.e2e.daemon import Daemon
from tests.e2e.scrape import metric

Make = Callable[..., Daemon]


SIGNAL = b"POST /v1/pools/web/signal HTTP/1.1\r\nHost: pitboss\r\nContent-Type: application/json\r\n"

REQUESTS = (
    b"GET /v1/status HTTP/1.1\r\nHost: pitboss\r\n\r\n",
    b"GET /v1/pools/web?after=1 HTTP/1.1\r\nHost: pitboss\r\nX-Request-ID: a\r\n\r\n",
    b"GET /v1/operations/op-1?wait=0 HTTP/1.1\r\nHost: pitboss\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: pitboss\r\nAccept: */*\r\n\r\n",
    SIGNAL + b'Content-Length: 20\r\n\r\n{"signal":"SIGURG"} ',
    SIGNAL + b'Transfer-Encoding: chunked\r\n\r\n13\r\n{"signal":"SIGURG"}\r\n0\r\n\r\n',
    b"POST /v1/pools/web/start HTTP/1.1\r\nHost: pitboss\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n",
)

POISON = (
    *(
        b"\0",
        b"\xff\xfe",
        b"\r\n\r\n",
        b"\n",
        b" ",
        b"%",
        b"%00",
        b"%2e%2e%2f",
        b"../",
        b"'\";--",
        b"\x1b[2J",
    ),
    *(b"9" * 40, b"-1", b"1e999", b"NaN", b"[" * 300, b"{" * 300, b"A" * 9000, b"Content-Length: 5\r\n"),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Host: evil\r\n",
        b"\xed\xa0\x80",
        "é".encode(),
        b"?wait=x&after=-",
    ),
)


def mutations(count: int) -> Iterator[bytes]:
    """Deterministic damage to good requests."""
    dice = random.Random(20)
    for _ in range(count):
        data = bytearray(dice.choice(REQUESTS))
        for _ in range(dice.randint(1, 2)):
            at = dice.randrange(len(data) + 1)
            kind = dice.randrange(5)
            if kind == 0:
                data[at:at] = dice.choice(POISON)
            elif kind == 1:
                del data[at : at + dice.randint(1, 12)]
            elif kind == 2:
                data[at : at + 1] = bytes([dice.randrange(256)])
            elif kind == 3:
                data[at:at] = data[max(0, at - 30) : at]
            else:
                data[at : at + 3] = dice.choice(POISON)
        yield bytes(data)


def answers(one: Daemon, requests: list[bytes]) -> list[bytes]:
    """What comes back when these are sent at once, each on a connection of its own."""
    sockets = []
    for data in requests:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(60)
        client.connect(str(one.socket))
        # It may be refused before all of it was sent: the answer can be read all the same.
        with suppress(OSError):
            client.sendall(data)
        sockets.append(client)
    for _ in range(3):
        # Whoever came first is served by now; an unfinished request is ended by the half-close below.
        assert one.get("/livez").status_code == 200
    received = []
    for client in sockets:
        with client:
            parts = []
            with suppress(OSError):
                client.shutdown(socket.SHUT_WR)
                while part := client.recv(65536):
                    parts.append(part)
            received.append(b"".join(parts))
    return received


def test_malformed_requests_hurt_nobody(daemon: Make) -> None:
    """200 kinds of damage: no answer is a 5xx, nothing is logged as an error, and all goes on."""
    one = daemon({"pools": {"web": pool(worker("obedient"))}})
    one.wait_ready()
    wild = list(mutations(200))
    spoken = 0
    for begin in range(0, len(wild), 40):
        batch = wild[begin : begin + 40]
        for sent, got in zip(batch, answers(one, batch), strict=True):
            codes = [int(code) for code in re.findall(rb"^HTTP/1\.1 (\d{3})", got, re.MULTILINE)]
            assert all(200 <= code < 500 for code in codes), (sent, got[:500])
            spoken += bool(codes)
    assert spoken > 100
    shown = one.instance("web/0")
    assert (shown["generation"], shown["ready"]) == (1, True)
    assert one.get("/livez").json() == {"status": "ok"}
    assert metric(one, "pitboss_core_faults_total") == 0
    assert "Traceback" not in one.log()
    assert [record for record in one.log_records() if record.get("level") == "error"] == []
