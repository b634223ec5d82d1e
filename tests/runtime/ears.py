"""Who listens at notify sockets, and who speaks: two trees, and senders that are processes of their own."""

import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from supervisor.core.events import BarrierReached, Event, Told
from supervisor.core.identity import InstanceId
from supervisor.runtime.notify import NotifySockets

EMAILS = InstanceId("emails", 0)
REPORTS = InstanceId("reports", 1)


class Ear:
    """Notify sockets in a world of two sets: who belongs to a tree, and who may lead it."""

    def __init__(self, directory: Path) -> None:
        self.events: list[Event] = []
        self.generations: dict[InstanceId, int] = {EMAILS: 3, REPORTS: 7}
        self.tree: dict[InstanceId, set[int]] = {EMAILS: {os.getpid()}, REPORTS: {os.getpid()}}
        self.leaders: set[int] = set()
        self.sockets = NotifySockets(
            post=self.events.append,
            directory=directory,
            generation_of=self.generations.get,
            owns=lambda instance, generation, pid: (
                self.generations[instance] == generation and pid in self.tree[instance]
            ),
            adopt_main=lambda instance, generation, pid: pid in self.leaders,
        )

    def told(self, instance: InstanceId = EMAILS) -> list[Told]:
        """What one instance has said so far."""
        return [one for one in self.events if isinstance(one, Told) and one.instance == instance]

    def barriers(self) -> list[int]:
        """The tokens of all barriers that were reached."""
        return [one.token for one in self.events if isinstance(one, BarrierReached)]


def exists(path: str) -> bool:
    """Whether there is anything at a path."""
    return os.path.lexists(path)


def send(path: str, *payloads: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Send datagrams from this process, each with the same descriptors."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as endpoint:
        endpoint.setblocking(False)
        endpoint.connect(path)
        for payload in payloads:
            socket.send_fds(endpoint, [payload], list(descriptors)) if descriptors else endpoint.send(payload)


SENDER = """
import os, socket, sys
path, uid, times, *messages = sys.argv[1:]
if int(uid) >= 0:
    os.setgid(int(uid)); os.setuid(int(uid))
endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sys.stdin.readline()
try:
    endpoint.connect(path)
    for _ in range(int(times)):
        for message in messages:
            endpoint.send(message.encode())
    print("sent", flush=True)
except OSError as error:
    print(error.strerror, flush=True)
sys.stdin.read()
"""


class Sender:
    """Another process that sends when it is told to and stays alive until it is let go."""

    def __init__(self, path: str, *messages: str, uid: int = -1, times: int = 1) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", SENDER, path, str(uid), str(times), *messages],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._heard = ""

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.process.pid

    def go(self) -> None:
        """Let it send."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def outcome(self) -> str:
        """`sent`, the error it met, or nothing so far."""
        assert self.process.stdout is not None
        with suppress(BlockingIOError):
            self._heard += os.read(self.process.stdout.fileno(), 1000).decode()
        return self._heard.strip()

    def end(self) -> None:
        """Let it go and reap it."""
        self.process.kill()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
