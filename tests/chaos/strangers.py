"""Processes of the same user that the daemon must never touch; some take the pid of a worker that has ended.

Linux gives a chosen pid to a new process when clone3(2) asks for it with `set_tid` (Linux 5.5, as root).
That is how a signal to a remembered number is caught: the stranger writes down what it gets.
"""

import ctypes
import os
import signal
import struct
import threading
import time
from pathlib import Path

from tests.chaos.record import Deed
from tests.e2e.commands import PYTHON

CLONE3 = 435
"""Its number is the same on every architecture."""

SCRIPT = Path(__file__).resolve().parent / "stranger.py"
MOST = 12


def clone_with_pid(pid: int) -> int:
    """Fork with this pid: 0 in the child, the pid in the parent, -1 if the kernel refuses.

    PyDLL keeps the interpreter's lock over the call, so that the child, which has one thread, holds it.
    """
    wanted = ctypes.c_int(pid)
    arguments = struct.pack("11Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1, 0)
    return int(ctypes.PyDLL(None).syscall(CLONE3, arguments, len(arguments)))


class Strangers:
    """All strangers of one storm."""

    def __init__(self, root: Path, user: int | None) -> None:
        self.path = root / "strangers.record"
        self.user = user
        self.abouts: dict[int, str] = {}
        self.suffered: list[Deed] = []
        self._lock = threading.Lock()
        for _ in range(3):
            self._add(os.fork(), "a bystander")

    def _command(self) -> list[str]:
        command = [PYTHON[0], "-I", "-S", str(SCRIPT), str(self.path)]
        if self.user is None:
            return command
        return [
            "/usr/bin/setpriv",
            f"--reuid={self.user}",
            f"--regid={self.user}",
            "--clear-groups",
            *command,
        ]

    def _add(self, pid: int, about: str) -> None:
        if pid == 0:
            try:
                nothing = os.open(os.devnull, os.O_RDWR)
                for descriptor in range(3):
                    os.dup2(nothing, descriptor)
                command = self._command()
                os.execv(command[0], command)
            finally:
                os._exit(127)
        self.abouts[pid] = about

    def impersonate(self, pid: int, about: str) -> bool:
        """Take the pid of a process that has ended; false while the kernel does not give it."""
        with self._lock:
            made = clone_with_pid(pid)
            if made < 0:
                return False
            self._add(made, f"with the pid of {about}")
            if len(self.abouts) > MOST:
                self._end(next(old for old in self.abouts if self.abouts[old] != "a bystander"))
            return True

    def _end(self, pid: int) -> None:
        """End one; if somebody has been quicker, that is what it had to suffer."""
        about = self.abouts.pop(pid)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            how = os.waitstatus_to_exitcode(status)
            self._suffered(pid, about, f"its end ({how})", "?")
            return
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def _suffered(self, pid: int, about: str, what: str, sender: str) -> None:
        now = time.monotonic()
        facts = {"pid": pid, "about": about, "signal": what, "sender": sender}
        self.suffered.append(Deed(now, now, "stranger-signaled", facts))

    def close(self) -> list[Deed]:
        """End them all; what they had to suffer."""
        abouts = dict(self.abouts)
        for pid in abouts:
            self._end(pid)
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            number, name, sender = line.split()
            if int(sender) != os.getpid():
                self._suffered(int(number), abouts.get(int(number), "ended since"), name, sender)
        return self.suffered
