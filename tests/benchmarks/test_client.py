"""The client of the comparison counts what it is told: answers, failures, and time since one was due."""

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.benchmarks.load import CONNECTIONS, Heard, client
from tests.benchmarks.subject import Endpoint

pytestmark = pytest.mark.skipif(
    not shutil.which("gcc") and not os.environ.get("CI"), reason="gcc builds the client"
)
REQUEST = "GET / HTTP/1.1\r\nHost: here\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
Serve = Callable[[socket.socket, int], bool]


@contextmanager
def server(serve: Serve) -> Iterator[Endpoint]:
    """A server with a thread for each connection.

    `serve` is given the number of a request, and says whether the connection stays open.
    """
    with TemporaryDirectory(prefix="c-", dir="/tmp") as name, socket.socket(socket.AF_UNIX) as listener:
        path = Path(name) / "socket"
        listener.bind(str(path))
        listener.listen(64)
        lock, count = threading.Lock(), [0]

        def converse(one: socket.socket) -> None:
            with one:
                while one.recv(65536):
                    with lock:
                        number = count[0]
                        count[0] += 1
                    if not serve(one, number):
                        return

        def accept() -> None:
            while True:
                try:
                    one, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=converse, args=(one,), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield Endpoint(path, {})
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join(30)


def heard(serve: Serve, *, rate: float = 200) -> Heard:
    """What a client was told in half a second."""
    with server(serve) as endpoint, client(endpoint, REQUEST, rate=rate, seconds=0.5) as one:
        return one.heard()


def answers(one: socket.socket, number: int) -> bool:
    """Answer, in two pieces, the second of which begins within the body."""
    one.sendall(WHOLE[:-2])
    one.sendall(WHOLE[-2:])
    return True


def test_whole_answers_are_counted() -> None:
    """However they are cut."""
    found = heard(answers)
    assert found.failed == 0
    assert found.answers > 0
    assert 0 < found.median <= found.p99 <= found.slowest


def test_a_client_without_a_rate_asks_again_at_once() -> None:
    """Each connection waits for nothing but its answer."""
    assert heard(answers, rate=0).answers > CONNECTIONS


def cut_off(one: socket.socket, number: int) -> bool:
    """Every fourth answer ends before it is whole."""
    one.sendall(WHOLE[:-1] if number % 4 == 3 else WHOLE)
    return number % 4 != 3


def refuse(one: socket.socket, number: int) -> bool:
    """Every fourth answer says that the server could not."""
    one.sendall(WHOLE.replace(b"200 OK", b"502 No") if number % 4 == 3 else WHOLE)
    return True


@pytest.mark.parametrize("serve", [cut_off, refuse])
def test_a_request_that_failed_is_counted(serve: Serve) -> None:
    """One in four, and those after it are asked on a new connection."""
    found = heard(serve)
    assert found.failed == (found.answers + found.failed) // 4 > 0


def test_a_server_that_stands_still_is_slow_for_all_that_were_due() -> None:
    """A pause of a fifth of a second makes the answers of forty requests late, not of one."""
    still = threading.Event()

    def pauses(one: socket.socket, number: int) -> bool:
        if number == 20:
            threading.Timer(0.2, still.set).start()
        if number >= 20:
            still.wait(30)
        return answers(one, number)

    found = heard(pauses)
    assert found.failed == 0
    assert found.slowest >= 200
    assert found.p99 >= 100
