"""What the control plane answers a second, and what an answer costs, with a thousand instances.

A real daemon, and a client on raw sockets that keeps eight connections of the unix socket busy: it looks
for the end of an answer and parses nothing, so what is measured is the daemon. CPU is the daemon's own.
Numbers depend on the machine: compare them only within one run.
"""

import re
import selectors
import socket
import sys
import time

from tests.benchmarks.bench_loop import cpu_seconds
from tests.e2e.daemon import Daemon

INSTANCES = 1000
CONNECTIONS = 8
SECONDS = 4.0
PATHS = ("/livez", "/readyz", "/v1/pools/pool/instances/0", "/v1/status", "/metrics")

_LENGTH = re.compile(rb"content-length: (\d+)\r\n", re.IGNORECASE)


class Connection:
    """One connection that is kept busy with one request."""

    def __init__(self, path: str, request: bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self._request = request
        self._received = bytearray()
        self._missing = 0

    def ask(self) -> None:
        """Send the request."""
        self.socket.sendall(self._request)

    def hear(self) -> bool:
        """Take what has arrived; whether an answer is whole."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise AssertionError(
                f"the daemon has closed the connection after {bytes(self._received[:200])!r}"
            )
        if self._missing:
            self._missing -= len(data)
            return self._missing == 0
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return False
        found = _LENGTH.search(self._received, 0, head + 2)
        if found is None or not self._received.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503")):
            raise AssertionError(f"no answer of a known length: {bytes(self._received[:200])!r}")
        self._missing = head + 4 + int(found[1]) - len(self._received)
        self._received.clear()
        return self._missing == 0


def answered(daemon: Daemon, path: str) -> tuple[int, float, float]:
    """How many answers there were, in how many seconds, for how many seconds of the daemon's CPU."""
    request = f"GET {path} HTTP/1.1\r\nHost: pitboss\r\n\r\n".encode()
    connections = [Connection(str(daemon.socket), request) for _ in range(CONNECTIONS)]
    count, used, began = 0, cpu_seconds(daemon.pid), time.monotonic()
    with selectors.DefaultSelector() as selector:
        for one in connections:
            selector.register(one.socket, selectors.EVENT_READ, one)
            one.ask()
        while time.monotonic() < began + SECONDS:
            for key, _ in selector.select(1.0):
                one = key.data
                if one.hear():
                    count += 1
                    one.ask()
    spent, seconds = cpu_seconds(daemon.pid) - used, time.monotonic() - began
    for one in connections:
        one.socket.close()
    return count, seconds, spent


def main() -> int:
    """Measure and print; always 0."""
    pool = {"command": ["/bin/sleep", "1000000"], "instances": INSTANCES, "startup": {"min_uptime": 0}}
    daemon = Daemon({"pools": {"pool": pool}}).start()
    try:
        daemon.wait_ready(within=200)
        for path in PATHS:
            count, seconds, spent = answered(daemon, path)
            print(
                f"{path:<28} {count / seconds:8.0f} answers a second"
                f"   {spent / max(count, 1) * 1000:7.3f} ms of CPU each"
            )
    finally:
        daemon.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
