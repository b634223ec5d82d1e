"""Tries what the hardening of a unit may take away, and writes what came of it, as JSON, to its argument."""

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CLONE_NEWUSER = 0x10000000


def attempt(act: Callable[[], object]) -> str:
    """What an act came to: "ok", or the name of its error."""
    try:
        act()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")
    return "ok"


def bind(port: int) -> None:
    """Take a TCP port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", port))


def unshare() -> None:
    """Make a namespace of one's own, in a child."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def written(path: str) -> Callable[[], None]:
    """Write a file and remove it."""

    def act() -> None:
        with open(path, "w", encoding="ascii"):
            pass
        os.unlink(path)

    return act


def field(name: str) -> str:
    """A line of /proc/self/status."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(line.split()[1] for line in file if line.startswith(f"{name}:"))


borrowed = subprocess.run([f"{sys.argv[1]}.suid", "-u"], capture_output=True, text=True, check=False)
found = {
    "user": os.geteuid(),
    "capabilities": int(field("CapEff"), 16),
    "borrowed": borrowed.stdout.strip(),
    "oom_score_adj": int(Path("/proc/self/oom_score_adj").read_text()),
    "system": attempt(written("/usr/look")),
    "configuration": attempt(written("/etc/look")),
    "state": attempt(written("/var/lib/test/look")),
    "temporary": attempt(written("/tmp/look")),
    "port": attempt(lambda: bind(80)),
    "netlink": attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()),
    "packet": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()),
    "memory": attempt(
        lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    ),
    "namespace": attempt(unshare),
}
with open(sys.argv[1] + ".new", "w", encoding="ascii") as file:
    json.dump(found, file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True:
    signal.pause()
