"""Workers that write down what happens to them, and the reader of what they wrote."""

from pathlib import Path
from typing import Any

from tests.e2e.commands import pool, script

RECORDER = """
import os, signal, socket, sys, threading, time
from pathlib import Path
told = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, told)
def note(word):
    line = f"{word} {os.environ['PITBOSS_INSTANCE']} {time.monotonic()} {os.getpid()}\\n"
    descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, line.encode())
    os.close(descriptor)
def tell(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
def hold(gate):
    while gate and not Path(gate).exists():
        threading.Event().wait(0.01)
note("begin")
hold(sys.argv[2])
if os.environ.get("TASK"):
    note("end")
    sys.exit(int(os.environ["TASK"]))
note("ready")
tell("READY=1")
while True:
    signaled = signal.sigwait(told)
    note(signal.Signals(signaled).name)
    if signaled == signal.SIGUSR1:
        if os.environ.get("DRAINS"):
            tell("X_PITBOSS_DRAINED=1")
        continue
    threading.Event().wait(0.3)
    note("end")
    sys.exit(0)
"""
"""Arguments: RECORD GATE. Notes what happens to it, is ready once the file GATE exists, and takes a while
to end. With TASK=n it ends with n instead of getting ready; with DRAINS=1 a USR1 makes it say so."""


class Record:
    """The common record of the workers of one test; each line is one write, so none is torn."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "record"

    def recorder(self, *, gate: Path | None = None, **more: Any) -> dict[str, Any]:
        """A pool of recorders."""
        command = [*script(RECORDER), str(self.path), str(gate or "")]
        defaults: dict[str, Any] = {
            "readiness": {"notify": True},
            "stop": {"stages": [{"signal": "SIGTERM", "target": "main", "grace": "60s"}]},
        }
        return pool(command, **{**defaults, **more})

    def lines(self) -> list[tuple[str, str, float, int]]:
        """(word, instance, monotonic seconds, pid), as they came."""
        if not self.path.exists():
            return []
        split = [line.split() for line in self.path.read_text().splitlines()]
        return [(word, instance, float(at), int(pid)) for word, instance, at, pid in split]

    def moments(self, word: str, name: str) -> list[float]:
        """When this happened to the instances of a pool."""
        return [
            at for said, instance, at, _ in self.lines() if said == word and instance.startswith(f"{name}/")
        ]

    def first(self, word: str, name: str) -> float:
        """When this first happened to an instance of a pool."""
        return min(self.moments(word, name))

    def last(self, word: str, name: str) -> float:
        """When this last happened to an instance of a pool."""
        return max(self.moments(word, name))
